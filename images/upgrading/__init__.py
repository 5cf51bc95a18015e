"""`invoke upgrade`: another package and another config for both nodes of a running pair, one after the other."""
