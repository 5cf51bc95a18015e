"""Pure parsers of what the machine says. Nothing here runs a program."""
