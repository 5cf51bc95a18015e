"""`invoke serve`: what an installation over the network needs, from the first DHCP request to the formed pair."""
