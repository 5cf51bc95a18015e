"""One module a step: check, apply, check again. The only code that changes the node."""
