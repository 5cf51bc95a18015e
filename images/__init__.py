"""The build host: from a config to a bootable dom0 image, its seed medium and its manifest."""
