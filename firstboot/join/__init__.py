"""The join: two nodes find each other on the cluster link and prove that they belong together."""
