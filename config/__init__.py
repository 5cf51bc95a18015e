"""The model of a cluster, its loader and its checks. Imported by the build host and by the nodes alike."""
