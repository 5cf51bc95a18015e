"""The installer: from a bare machine to one with the dom0 on its system disk, which then boots and forms the pair."""
