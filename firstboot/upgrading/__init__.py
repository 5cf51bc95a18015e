"""`xenpair upgrade`: another package, another config, on a node of a formed pair that goes on serving."""
