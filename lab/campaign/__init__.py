"""The fault campaign: random faults against a formed pair in the lab, and after each one the same audits."""
