"""What this host uses without us: its search domains, name servers, gateways and own networks.

Read from /etc/resolv.conf and /proc/net; on a system that has neither there is nothing to tell.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from resolverd.host import Subnet
from resolverd.names import Address, Network, fold

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_FILES = (Path("/run/systemd/resolve"), Path("/usr/lib/systemd"), Path("/lib/systemd"))
"""Where systemd-resolved has the files that /etc/resolv.conf may be a link to."""
PROC_NET = Path("/proc/net")
_UP, _GATEWAY, _REJECT, _LOCAL = 0x1, 0x2, 0x200, 0x80000000
"""Flags of <linux/route.h> and <linux/ipv6_route.h>."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    search: tuple[str, ...] = ()
    is_search_resolveds: bool = False
    """Whether systemd-resolved wrote the file those are from: then they are all links', our own included."""
    nameservers: tuple[Address, ...] = ()
    gateways: tuple[Address, ...] = ()
    subnets: tuple[Subnet, ...] = ()

    @property
    def search_of_its_own(self) -> tuple[str, ...]:
        """What a file has that systemd-resolved did not write; it reads such a file only when it is asked."""
        return () if self.is_search_resolveds else self.search


class _Route(NamedTuple):
    link: str
    network: Network
    gateway: Address | None


def read(own_link: str, resolv_conf: Path = RESOLV_CONF, proc_net: Path = PROC_NET, hostname: str = "") -> HostFacts:
    """The facts, ``own_link`` and loopback left out. ``hostname``: the host's; empty: as the kernel has it."""
    text = _text(resolv_conf)
    nameservers = parse_resolv_conf(text)[1]
    routes = [
        route
        for route in (*_ipv4_routes(_text(proc_net / "route")), *_ipv6_routes(_text(proc_net / "ipv6_route")))
        if route.link not in (own_link, "lo")
    ]
    return HostFacts(
        search=searched(text, hostname or socket.gethostname()),
        is_search_resolveds=Path(os.path.realpath(resolv_conf)).parent in RESOLVED_FILES,
        nameservers=nameservers,
        gateways=tuple(dict.fromkeys(r.gateway for r in routes if r.gateway is not None and not r.network.prefixlen)),
        subnets=tuple(
            dict.fromkeys(
                Subnet(route.network, route.link)
                for route in routes
                if route.gateway is None and route.network.prefixlen and not _is_everywhere(route.network)
            )
        ),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[Address, ...]]:
    """Search domains and name servers as resolv.conf(5) has them: of ``search`` and ``domain`` the last one counts."""
    search: tuple[str, ...] = ()
    servers: list[Address] = []
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword in ("search", "domain"):
            search = tuple(bare for value in values if (bare := fold(value).strip(".")))
        elif keyword == "nameserver" and values and (address := _address(values[0])):
            servers.append(address)
    return search, tuple(dict.fromkeys(servers))


def searched(text: str, hostname: str) -> tuple[str, ...]:
    """The domains that programs search by the file ``text``: without a list, the host's own (resolv.conf(5))."""
    return parse_resolv_conf(text)[0] or tuple(filter(None, [fold(hostname).partition(".")[2].strip(".")]))


def _address(text: str) -> Address | None:
    """An address with its zone (``fe80::1%eth0``), without which a link-local one means nothing."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _ipv4_routes(text: str) -> Iterator[_Route]:
    """Lines of /proc/net/route: numbers are the octets of the address read as an integer of this machine."""
    for line in text.splitlines()[1:]:
        link, destination, gateway, flags, _, _, _, mask, *_ = line.split()
        if not int(flags, 16) & _UP or int(flags, 16) & _REJECT:
            continue
        network = ip_network(f"{_ipv4(destination)}/{_ipv4(mask)}")
        yield _Route(link, network, _ipv4(gateway) if int(flags, 16) & _GATEWAY else None)


def _ipv4(text: str) -> IPv4Address:
    return IPv4Address(struct.pack("=I", int(text, 16)))


def _ipv6_routes(text: str) -> Iterator[_Route]:
    """Lines of /proc/net/ipv6_route, the local table's left out."""
    for line in text.splitlines():
        destination, length, _, _, gateway, _, _, _, flags, link = line.split()
        if not int(flags, 16) & _UP or int(flags, 16) & (_REJECT | _LOCAL):
            continue
        network = ip_network((bytes.fromhex(destination), int(length, 16)))
        yield _Route(link, network, IPv6Address(bytes.fromhex(gateway)) if int(flags, 16) & _GATEWAY else None)


def _is_everywhere(network: Network) -> bool:
    """Every link has these, and no setting routes them anyway."""
    return network.is_link_local or network.is_multicast
