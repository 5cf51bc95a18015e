"""What is in a finished image, and what differs between two, without mounting anything and without root."""
