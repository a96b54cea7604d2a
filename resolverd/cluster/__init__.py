"""Watching the cluster: list and watch, slim frozen objects, one immutable Snapshot."""
