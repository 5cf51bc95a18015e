"""Guests: kept as tags on their logical volumes, run on one node at a time, carried by the cluster stack."""
