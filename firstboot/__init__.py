"""The node: from a fresh dom0 to a member of the formed pair, and the xenpair command."""
