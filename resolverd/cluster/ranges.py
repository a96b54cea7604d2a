"""The cluster's own address ranges: ServiceCIDR objects, the nodes' pod ranges, and else the addresses seen.

Clusters before 1.33 have no ServiceCIDR objects, many networks give nodes no pod range, and many users may read
neither. What remains are the addresses of services and of endpoints that are pods. Those are other people's data:
an address of the public internet, or of this machine, never makes a range.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from resolverd.cluster.client import ApiClient, ApiError, Json
from resolverd.cluster.objects import ClusterObject, EndpointSlice, Service
from resolverd.cluster.snapshot import Change
from resolverd.names import Address, Network, address_of

log = logging.getLogger(__name__)

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
"""Since Kubernetes 1.33 (KEP-1880)."""
NODES = "/api/v1/nodes"
SERVICE_CIDR, NODE, OBSERVED, SETTING = "service-cidr", "node", "observed", "cluster.ranges"
"""Who says that a range is the cluster's, for ``status``."""
WIDEST = {4: 8, 6: 32}
"""Prefix length of the widest range that is believed: somebody else's default route is not to become ours."""
BLOCK = {4: 24, 6: 112}
"""Prefix length of the block around an address seen: at the border of a reverse zone, and no larger than needed."""

MOST = 16384
"""Blocks that are kept: addresses are other people's data, and a cluster of 10,000 nodes has fewer."""


@dataclass(slots=True)
class Told:
    """What the cluster itself says."""

    ranges: dict[Network, str] = field(default_factory=dict)
    """Those of services and pods, and who names each."""
    refused: set[str] = field(default_factory=set)
    """Paths where there may be more, and that we may not read."""

    @property
    def is_refused(self) -> bool:
        return bool(self.refused)


async def discover(client: ApiClient, before: Told | None = None) -> Told:
    """Ask for everything, or for what was refused ``before`` alone: the list of nodes may be long.

    Raises UnreachableError, and ApiError when the server cannot tell now.
    """
    told = Told(dict(before.ranges)) if before else Told()
    for path, source, extract in ((SERVICE_CIDRS, SERVICE_CIDR, _service_cidrs), (NODES, NODE, _pod_cidrs)):
        if before and path not in before.refused:
            continue
        try:
            page = await client.get(path)
        except ApiError as error:
            if error.is_passing:
                raise
            if error.is_refusal:
                told.refused.add(path)
            log.info("%s cannot be read (%s): those ranges are taken from the addresses seen", path, error.why)
            continue
        for text in extract(page):
            try:
                network = ip_network(text)
            except ValueError:
                log.warning("%s names %r, which is no network", path, text)
                continue
            if network.prefixlen < WIDEST[network.version]:
                log.warning("%s names %s, which is too wide to be a cluster's: see cluster.ranges", path, network)
                continue
            told.ranges.setdefault(network, source)
    told.ranges = dict(sorted(told.ranges.items(), key=lambda item: (item[0].version, item[0])))
    return told


class Seen:
    """Ranges made of the addresses seen: each is the block around one, and stays once it was seen."""

    def __init__(self) -> None:
        self._blocks: set[Network] = set()
        self._texts: set[str] = set()
        """Beginnings of IPv4 addresses whose block is known: most addresses need not be looked at closely."""

    def look(self, changes: Iterable[Change]) -> bool:
        """Learn from new and changed objects; whether there was anything to learn."""
        before = len(self._blocks)
        for change in changes:
            for text in _addresses(change.object):
                start = text.rpartition(".")[0]
                if start in self._texts:
                    continue
                address = address_of(text)
                if address is not None and _is_private(address) and len(self._blocks) < MOST:
                    self._blocks.add(ip_network((address, BLOCK[address.version]), strict=False))
                    if address.version == 4:
                        self._texts.add(start)
        return len(self._blocks) != before

    def outside(self, known: Iterable[Network]) -> tuple[Network, ...]:
        """The blocks that no ``known`` range covers, in order."""
        known = tuple(known)
        found = [block for block in self._blocks if not any(_covers(net, block) for net in known)]
        return tuple(sorted(found, key=lambda net: (net.version, net)))


def _addresses(item: ClusterObject | None) -> Iterator[str]:
    if isinstance(item, Service):
        yield from item.cluster_ips
    elif isinstance(item, EndpointSlice):
        for endpoint in item.endpoints:
            if endpoint.pod:
                yield from endpoint.addresses


def _is_private(address: Address) -> bool:
    """Whether ``address`` can be a cluster's: not routed on the internet, and not special on every host."""
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return not (address.is_global or special or address.is_reserved)


def _covers(network: Network, block: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(block, IPv4Network) and block.subnet_of(network)
    return isinstance(block, IPv6Network) and block.subnet_of(network)


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
