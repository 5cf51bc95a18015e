"""Where an image is built: on this host, or in a container that a Docker engine runs on it."""
