"""What a cluster begins with: its ranges of addresses, and the objects of YAML files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from resolverd.errors import UsageError
from resolverd.names import Network

from .manifests import Manifest
from .registry import Registry
from .resources import NAMESPACES, NODES, SERVICE_CIDRS
from .status import StatusError

Raw = dict[str, Any]

SYSTEM = Path(__file__).parent / "objects" / "system"
"""Objects that every cluster has."""
SAMPLES = Path(__file__).parent / "objects" / "samples"
"""Objects to look at: services of every kind, and pods behind them."""
SERVICE_NETWORKS = (ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112"))
POD_NETWORKS = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/112"))


def load(registry: Registry, manifests: Iterable[Manifest], service_networks: Sequence[Network]) -> None:
    """Create what is described, namespaces and nodes first; of objects of the same name the last one counts.

    UsageError that names the file and line of an object that the API refuses.
    """
    registry.create(SERVICE_CIDRS, "", _service_cidr(service_networks))
    last = {(item.resource, item.namespace, item.object["metadata"]["name"]): item for item in manifests}
    order = {NAMESPACES: 0, NODES: 1}
    for item in sorted(last.values(), key=lambda item: order.get(item.resource, 2)):
        try:
            registry.create(item.resource, "", item.object)
        except StatusError as error:
            raise UsageError(item.where, error.message, "correct the object") from error


def _service_cidr(networks: Sequence[Network]) -> Raw:
    ready = {"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [str(network) for network in networks]},
        "status": {"conditions": [ready]},
    }
