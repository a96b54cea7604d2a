"""The nftables table that redirects the host's DNS questions to our server, as nft reads and prints it. Pure.

Redirecting is done in the output hook, before anybody else's NAT (Docker's own DNS server, 127.0.0.11, is nothing but
a NAT rule): the first NAT rule a connection meets decides. Questions of ours carry a mark, pass, and meet the others.

They are tracked in a zone of their own. Connection tracking remembers a UDP port for half a minute, and a program that
got one which we had just asked from would go the way we went, past us: of 1,000 names a few would be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from resolverd.host import Server
from resolverd.names import Address, address_of
from resolverd.options import split_endpoint

FAMILY, TABLE = "inet", "resolverd"
PRIORITY = -110
"""Just before destination NAT, -100 (NF_IP_PRI_NAT_DST)."""
ZONE_PRIORITY = -300
"""Before connection tracking, -200 (NF_IP_PRI_RAW)."""
_ELEMENTS = re.compile(r"elements = \{([^}]*)\}")
_TARGET = re.compile(r"dnat ip6? to (\S+)")
_HOOKS = {"output": "of the host's own programs", "prerouting": "of its containers"}
_SETS = {4: ("v4", "ipv4_addr", "ip"), 6: ("v6", "ipv6_addr", "ip6")}
"""IP version -> name of the set of name servers, its type, nft's word for the family."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """Whose questions go to whom: at most one server for each IP version."""

    nameservers: frozenset[Address]
    servers: tuple[Server, ...]

    def __bool__(self) -> bool:
        return bool(self.nameservers)


def table(redirection: Redirection, mark: int, *, containers: bool = False, name: str = TABLE) -> str:
    """The table on one line, which is one transaction.

    ``flags owner``: the kernel removes it when the process that made it ends, and nobody else may change it, not even
    by ``nft flush ruleset`` (Linux 5.12).
    """
    parts = ["flags owner;", *_sets(redirection)]
    # Answers are looked for in the usual zone, so only the way there is in ours. A zone has 16 bits.
    zoned = f"meta mark {mark:#x} ct original zone set {mark & 0xFFFF}"
    parts.append(f"chain zone {{ type filter hook output priority {ZONE_PRIORITY}; policy accept; {zoned}; }};")
    for hook in _HOOKS if containers else ("output",):
        rules = "; ".join([f"meta mark {mark:#x} accept", *_rules(redirection)])
        parts.append(f"chain {hook} {{ type nat hook {hook} priority {PRIORITY}; policy accept; {rules}; }};")
    return f"table {FAMILY} {name} {{ {' '.join(parts)} }}"


def redirection_of(listing: str) -> Redirection:
    """What a table does, from ``nft list table``; the empty value when it is none of ours.

    Not from ``--json``: nft 1.0.6 prints whatever its memory holds for the flag ``owner``.
    """
    named = (text.strip() for found in _ELEMENTS.finditer(listing) for text in found[1].split(","))
    addresses = (address_of(text) for text in named)
    return Redirection(frozenset(filter(None, addresses)), tuple(dict.fromkeys(_servers(listing))))


def _sets(redirection: Redirection) -> Iterator[str]:
    for version, (name, kind, _) in _SETS.items():
        elements = sorted(str(address) for address in redirection.nameservers if address.version == version)
        if elements:
            yield f"set {name} {{ type {kind}; elements = {{ {', '.join(elements)} }}; }};"


def _rules(redirection: Redirection) -> Iterator[str]:
    for server in redirection.servers:
        name, _, word = _SETS[server.address.version]
        if any(address.version == server.address.version for address in redirection.nameservers):
            asked = f"{word} daddr @{name} meta l4proto {{ tcp, udp }} th dport 53"
            yield f"{asked} dnat {word} to {server}"


def _servers(listing: str) -> Iterator[Server]:
    for found in _TARGET.finditer(listing):
        host, port = split_endpoint(found[1])
        yield Server(ip_address(host), port)
