"""resolverd: Kubernetes service names that resolve, and addresses that answer, on a developer's machine."""

__version__ = "0.1.0"
