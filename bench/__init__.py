"""Measurements against the physical floor."""
