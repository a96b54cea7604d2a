"""The embedded cluster: a small Kubernetes API over loopback, with pods that are real servers."""
