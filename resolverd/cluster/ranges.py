"""The cluster's own address ranges, as far as it tells: ServiceCIDR objects and the nodes' pod ranges."""

from __future__ import annotations

import logging
from ipaddress import ip_network

from resolverd.cluster.client import ApiClient, ApiError, Json
from resolverd.names import Network

log = logging.getLogger(__name__)

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
"""Since Kubernetes 1.33 (KEP-1880)."""
NODES = "/api/v1/nodes"


async def discover(client: ApiClient) -> tuple[Network, ...]:
    """Ranges of services and pods; without those we may not read. Raises UnreachableError."""
    found: list[Network] = []
    for path, extract in ((SERVICE_CIDRS, _service_cidrs), (NODES, _pod_cidrs)):
        try:
            page = await client.get(path)
        except ApiError as error:
            log.info("%s cannot be read (%s): those ranges are taken from the addresses seen", path, error.why)
            continue
        for text in extract(page):
            try:
                found.append(ip_network(text))
            except ValueError:
                log.warning("%s names %r, which is no network", path, text)
    return tuple(sorted(set(found), key=lambda net: (net.version, net)))


def _service_cidrs(page: Json) -> list[str]:
    return [str(c) for item in _items(page) for c in _part(item, "spec").get("cidrs") or ()]


def _pod_cidrs(page: Json) -> list[str]:
    found: list[str] = []
    for item in _items(page):
        spec = _part(item, "spec")
        found += [str(c) for c in spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")])]
    return found


def _items(page: Json) -> list[Json]:
    return [item for item in page.get("items") or () if isinstance(item, dict)]


def _part(item: Json, key: str) -> Json:
    value = item.get(key)
    return value if isinstance(value, dict) else {}
