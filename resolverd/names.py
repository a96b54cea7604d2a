"""Domain names by labels, in one place: ``db`` never matches ``mongodb``.

A *text name* is what people and Kubernetes objects write: ASCII, labels joined by dots, an optional dot
at the end. Wire names, whose labels may hold any octet, live in :mod:`resolverd.dns.message`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_NAME = 253
"""Longest text name, in characters: 255 octets on the wire less the root and first length octet (RFC 1035 2.3.4)."""

_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_LABEL = re.compile(r"_?[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?")


def fold(name: str) -> str:
    """Lower-case ASCII letters only (RFC 4343): ``str.lower`` would map the Kelvin sign to ``k``."""
    return name.translate(_FOLD)


def labels(name: str) -> tuple[str, ...]:
    """The folded labels of a text name, leftmost first; the root is ``()``."""
    bare = fold(name).removesuffix(".")
    return tuple(bare.split(".")) if bare else ()


def is_under(name: Sequence[str], suffix: Sequence[str]) -> bool:
    """Whether ``name`` is ``suffix`` or lies below it; both are folded labels."""
    return len(name) >= len(suffix) and tuple(name[len(name) - len(suffix) :]) == tuple(suffix)


def is_label(text: str) -> bool:
    """Whether ``text`` is an RFC 1123 label as Kubernetes demands of namespaces and services."""
    return _LABEL.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    """Whether ``text`` may be given to the host as a domain: folded, not the root, every label well formed.

    systemd-resolved itself accepts spaces, ``*.x`` and the root (which would take everything over).
    """
    bare = text.removesuffix(".")
    return 0 < len(bare) <= MAX_NAME and all(_SERVICE_LABEL.fullmatch(label) for label in bare.split("."))


def reverse_zones(network: Network) -> Iterator[str]:
    """The reverse zones that cover ``network``, at octet (v4) or nibble (v6) borders, without the final dot."""
    step = 8 if network.version == 4 else 4
    border = -(-network.prefixlen // step) * step
    for part in network.subnets(new_prefix=border):
        whole = part.network_address.reverse_pointer.split(".")
        yield ".".join(whole[(part.max_prefixlen - border) // step :])


def address_of(text: str) -> Address | None:
    """The address ``text`` spells, or None: cluster data may hold anything. Zones (``fe80::1%eth0``) are refused."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None
