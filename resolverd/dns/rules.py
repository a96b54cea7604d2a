"""Whose name a question is: the cluster's, one of its short forms, an address of its ranges, or nobody's.

Decided by labels, the longest match first. Labels are folded text, leftmost first, one character an octet
(:func:`resolverd.dns.records.text_labels`), so a dot inside a label separates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from resolverd.host import Server
from resolverd.names import Address, Network, is_under, labels

Labels = tuple[str, ...]

_HEX = frozenset("0123456789abcdef")
_labels = lru_cache(maxsize=8)(labels)
"""For the cluster domain, which every name is compared with."""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Everything the answers depend on besides the cluster."""

    domain: str = "cluster.local"
    domain_parts: tuple[str, ...] = ()
    """Where others have names in the domain, too: the labels below which it is ours. None: all of it is."""
    has_svc: bool = True
    """Whether names that end in ``svc`` are ours."""
    namespaces: frozenset[str] = frozenset()
    """Namespaces whose short names (``svc.ns``) are ours; the short names of a withheld one are nobody's."""
    watched: frozenset[str] | None = None
    """Namespaces whose services we know; what is in another is the cluster's DNS service's to say. None: all."""
    cluster_dns: Address | None = None
    """The cluster's DNS service; None: the Snapshot tells."""
    cluster: int = 0
    """How many other clusters were followed before this one: what their DNS services said does not count any more."""
    wants_domain: bool = False
    """Whether the domain is to be found out from the cluster's DNS service."""
    ranges: tuple[Network, ...] = ()
    """The cluster's own addresses: reverse questions inside them are ours to deny."""
    ttl: int = 5
    """Seconds, 0 to 3600."""
    pod_records: str = "insecure"
    endpoint_pod_names: bool = False
    lookup_timeout: float = 2.0
    """Seconds until a question gets an answer, whatever happens."""
    own_addresses: tuple[Address, ...] = ()
    """Where this server listens: the addresses of ``ns.dns.<domain>``."""
    upstreams: tuple[Server, ...] = ()
    """Who is asked for names that are nobody's, the first one first; none: they are refused."""
    mark: int = 0
    """Socket mark of what is sent to them; 0: none."""
    includes: frozenset[Labels] = frozenset()
    """Suffixes whose names the cluster's DNS service is asked for where the watch does not know them."""
    excluded_suffixes: frozenset[Labels] = frozenset()
    excludes: frozenset[Labels] = frozenset()
    """Whole names that are never the cluster's."""
    mappings: Mapping[Labels, Address | Labels] = field(default_factory=dict)
    """Names of the user's own: another name's records, or an address."""


class Kind(Enum):
    """Which tree a name belongs to."""

    CLUSTER = "cluster"
    SHORT = "short"
    """Below ``svc`` or below a namespace: the cluster's tree under another suffix."""
    REVERSE = "reverse"
    MAPPED = "mapped"
    """One name of the user's own."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The zone that a name lies in."""

    kind: Kind
    depth: int
    """How many labels of the name, from the right, are the zone's own."""
    rest: Labels = ()
    """The name relative to the cluster domain (not for reverse names)."""
    network: Network | None = None
    """The address, or the block of addresses, that a reverse name stands for; None when it stands for none."""
    is_whole: bool = True
    """Whether what is not found in it does not exist; otherwise only what is found is ours."""


def zone_of(name: Labels, config: DnsConfig) -> Zone | None:
    """The zone that answers for ``name``; None when it is nobody's."""
    domain = _labels(config.domain)
    if is_under(name, domain):
        rest = name[: len(name) - len(domain)]
        if not config.domain_parts:
            return Zone(Kind.CLUSTER, len(domain), rest=rest)
        if rest and rest[-1] in config.domain_parts:
            return Zone(Kind.CLUSTER, len(domain) + 1, rest=rest)
    if name[-1:] == ("svc",) and config.has_svc:
        return Zone(Kind.SHORT, 1, rest=name)
    if name and name[-1] in config.namespaces:
        return Zone(Kind.SHORT, 1, rest=(*name, "svc"))
    return _reverse_zone(name, config.ranges)


def _reverse_zone(name: Labels, ranges: tuple[Network, ...]) -> Zone | None:
    """The zone of a reverse name: derived from the range around it, else the whole tree for a single address.

    An address outside the ranges may still be known (an EndpointSlice may name any); blocks outside them are
    nobody's.
    """
    if name[-2:] not in (("in-addr", "arpa"), ("ip6", "arpa")):
        return None
    network = _network(name)
    inside = [own for own in ranges if _is_inside(name, network, own)]
    if inside:
        nearest = max(inside, key=lambda own: own.prefixlen)
        return Zone(Kind.REVERSE, 2 + _border(nearest), network=network)
    if network is None or network.prefixlen < network.max_prefixlen:
        return None
    return Zone(Kind.REVERSE, 2, network=network, is_whole=False)


def _network(name: Labels) -> Network | None:
    """What the whole of a reverse name stands for (RFC 1035 3.5, RFC 3596 2.5).

    Labels in front of a complete IPv6 address are ignored, as CoreDNS does.
    """
    digits = name[-3::-1]
    if name[-2] == "ip6":
        digits = digits[:32]
        if not all(len(digit) == 1 and digit in _HEX for digit in digits):
            return None
        value = int("".join(digits).ljust(32, "0"), 16)
        return IPv6Network((value, 4 * len(digits)))
    if len(digits) > 4 or not all(_is_octet(digit) for digit in digits):
        return None
    octets = [int(digit) for digit in digits] + [0] * (4 - len(digits))
    return IPv4Network((int.from_bytes(bytes(octets), "big"), 8 * len(digits)))


def _is_octet(label: str) -> bool:
    """Whether ``label`` spells an octet without a leading zero."""
    return label.isascii() and label.isdigit() and len(label) <= 3 and str(int(label)) == label and int(label) < 256


def _is_inside(name: Labels, network: Network | None, own: Network) -> bool:
    """Whether ``name`` lies in a reverse zone of ``own``, even if it stands for no address itself."""
    if network is None:
        zone = name[-(2 + _border(own)) :]
        if len(zone) < 2 + _border(own):
            return False
        network = _network(zone)
    if isinstance(network, IPv4Network):
        return isinstance(own, IPv4Network) and network.subnet_of(own)
    return isinstance(network, IPv6Network) and isinstance(own, IPv6Network) and network.subnet_of(own)


def _border(own: Network) -> int:
    """How many digits the reverse zones of ``own`` have: octets or nibbles, rounded up."""
    return -(-own.prefixlen // (8 if own.version == 4 else 4))
