"""What systemd-resolved's bus interface says and wants to hear (org.freedesktop.resolve1(5)), as our values."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from resolverd.host import HostDns, OtherLink, Server
from resolverd.names import fold

from .dbus import Call

SERVICE = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"
MANAGER = "org.freedesktop.resolve1.Manager"
LINK = "org.freedesktop.resolve1.Link"
PROPERTIES = "org.freedesktop.DBus.Properties"

_FAMILY = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
PORT = 53
"""The one resolved asks when none is given."""

MODES = {
    "LLMNR": "SetLinkLLMNR",
    "MulticastDNS": "SetLinkMulticastDNS",
    "DNSSEC": "SetLinkDNSSEC",
    "DNSOverTLS": "SetLinkDNSOverTLS",
}
"""Property of a link -> the method that sets it; all of them are to be ``no`` on ours.

LLMNR and mDNS would hold single labels up for seconds. Our server neither signs nor speaks TLS, so that a host-wide
``DNSSEC=yes`` or ``DNSOverTLS=yes`` would fail every name of ours.
"""


@dataclass(frozen=True, slots=True)
class LinkState:
    """The settings of a link as read back."""

    servers: tuple[Server, ...]
    routing: tuple[str, ...]
    search: tuple[str, ...]
    default_route: bool | None
    """None: this version does not say."""
    modes: Mapping[str, str]
    """``LLMNR`` and so on; a version may lack some."""

    def same_servers(self, want: HostDns) -> bool:
        return self.servers == want.servers

    def same_domains(self, want: HostDns) -> bool:
        """The order matters for search domains only."""
        return self.search == want.search and set(self.routing) == set(want.routing)


def manager(member: str, signature: str = "", *body: object) -> Call:
    return Call(SERVICE, PATH, MANAGER, member, signature, body)


def properties_of(path: str, interface: str) -> Call:
    return Call(SERVICE, path, PROPERTIES, "GetAll", "s", (interface,))


def link_state(properties: Mapping[str, Any]) -> LinkState:
    """From the properties of a Link object. Versions before 246 have no ``DNSEx``."""
    extended = properties.get("DNSEx")
    servers = extended if extended is not None else [[*each, 0] for each in properties.get("DNS", ())]
    domains = [(_bare(name), routing) for name, routing in properties.get("Domains", ())]
    return LinkState(
        servers=tuple(_server(each) for each in servers),
        routing=tuple(name for name, routing in domains if routing),
        search=tuple(name for name, routing in domains if not routing),
        default_route=properties.get("DefaultRoute"),
        modes={name: properties[name] for name in MODES if name in properties},
    )


def servers_of(entries: Any, index: int) -> tuple[Server, ...]:
    """The servers of one link in the Manager's ``DNSEx`` or ``DNS``; index 0 is the host-wide ones."""
    return tuple(_server(entry[1:]) for entry in entries if entry[0] == index)


def servers_elsewhere(entries: Any, index: int) -> tuple[Server, ...]:
    """The servers of all links but one."""
    return tuple(_server(entry[1:]) for entry in entries if entry[0] != index)


def set_servers(index: int, servers: tuple[Server, ...]) -> Call:
    # Port 0 is the usual one, and is not shown; the last field is the name for TLS.
    body = [[_FAMILY[s.address.version], s.address.packed, 0 if s.port == PORT else s.port, ""] for s in servers]
    return manager("SetLinkDNSEx", "ia(iayqs)", index, body)


def set_servers_before_246(index: int, servers: tuple[Server, ...]) -> Call:
    return manager("SetLinkDNS", "ia(iay)", index, [[_FAMILY[s.address.version], s.address.packed] for s in servers])


def set_domains(index: int, want: HostDns) -> Call:
    body = [[name, False] for name in want.search] + [[name, True] for name in want.routing]
    return manager("SetLinkDomains", "ia(sb)", index, body)


def domain_entries(properties: Mapping[str, Any]) -> list[tuple[int, str, bool]]:
    """The Manager's ``Domains``: link (0: host-wide), bare name, whether routing only."""
    return [(index, _bare(name), routing) for index, name, routing in properties.get("Domains", ())]


def other_links(entries: list[tuple[int, str, bool]], own: int) -> tuple[OtherLink, ...]:
    """What is not ours; host-wide routing domains (``Domains=~corp`` in resolved.conf) count as a link too."""
    found: list[OtherLink] = []
    for index in sorted({entry[0] for entry in entries} - {own}):
        routing = tuple(name for number, name, routes in entries if number == index and routes)
        search = tuple(name for number, name, routes in entries if number == index and not routes)
        if index:
            found.append(OtherLink(_link_name(index), routing, search))
        elif routing:
            found.append(OtherLink("(host-wide)", routing))
    return tuple(found)


def cut(want: HostDns, limit: int) -> HostDns:
    """The first ``limit`` domains, search domains before others; 0 is no limit."""
    if not limit or len(want.search) + len(want.routing) <= limit:
        return want
    search = want.search[:limit]
    return replace(want, search=search, routing=want.routing[: limit - len(search)])


def _link_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"#{index}"


def _server(entry: Any) -> Server:
    _, octets, *rest = entry
    return Server(ip_address(bytes(octets)), (rest[0] if rest else 0) or PORT)


def _bare(name: str) -> str:
    """The root stays a dot."""
    return fold(name).removesuffix(".") or "."
