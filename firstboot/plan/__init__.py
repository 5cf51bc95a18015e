"""The decisions of first boot and of the storage unit. Pure: from what is wanted and what was seen, to what to do.

Nothing here runs a program or reads a file, so every combination of two nodes' states can be tested without a machine.
When in doubt a decision is an error or a Wait, and it carries the sentence that the administrator will read.
"""
