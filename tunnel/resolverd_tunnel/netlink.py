"""rtnetlink, as little of it as a tunnel needs: links, addresses, routes, rules (RFC 3549, rtnetlink(7)).

A netlink socket belongs to the network namespace of the thread that opened it, and stays there.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

from resolverd.errors import HostError, NoPermissionError
from resolverd.names import Address, Network

from .netlink_socket import ACK, NetlinkSocket, attribute, attributes

TABLE_MAIN, TABLE_LOCAL = 254, 255
UNICAST, LOCAL = 1, 2
"""Route types: by way of a device, and addresses of this host."""

NEWLINK = 16
_NEWADDR, _NEWROUTE, _DELROUTE, _GETROUTE, _NEWRULE, _DELRULE = 20, 24, 25, 26, 32, 33
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
_FIB_MATCH = 0x2000
_STATIC = 4
_WITH_ADDRESS = (2, 9, 16)
"""Route protocols of networks that a link is on: the kernel's, router advertisements', DHCP's."""
_BATCH = 64
"""Requests in one send: with more, their acknowledgements overflow the receive buffer (ENOBUFS)."""
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


@dataclass(frozen=True, slots=True)
class Route:
    """A route as the kernel has it."""

    network: Network
    ifindex: int
    """0 when it has no device, or several."""
    kind: int
    """``UNICAST``, ``LOCAL``, or another type of rtnetlink(7)."""
    gateway: bool
    table: int = TABLE_MAIN
    ours: bool = False
    """Whether a program added it as we do (protocol "static"), and not the kernel."""
    direct: bool = False
    """Whether it came with an address of its link: that link is on this network."""

    def __str__(self) -> str:
        try:
            link = socket.if_indextoname(self.ifindex)
        except OSError:
            link = f"link {self.ifindex}"
        return f"{self.network} dev {link}" if self.ifindex else str(self.network)


def explain(what: str, error: OSError) -> HostError | NoPermissionError:
    """``error`` of a netlink request or device call as a line for the user."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return NoPermissionError(what, "the kernel does not permit it", "run as root; a container needs CAP_NET_ADMIN")
    return HostError(what, error.strerror or str(error))


class Netlink:
    """A socket to the kernel's routing tables. Every method may raise OSError with the kernel's errno."""

    def __init__(self) -> None:
        self._kernel = NetlinkSocket(socket.NETLINK_ROUTE)

    def close(self) -> None:
        self._kernel.close()

    def set_link_up(self, ifindex: int, mtu: int = 0) -> None:
        """Bring a link up, without link-local addresses of its own; ``mtu`` in octets, 0 leaves it."""
        if mtu:
            # IFLA_AF_SPEC/AF_INET6/IFLA_INET6_ADDR_GEN_MODE = none: no fe80:: address, so no router solicitations.
            mode = attribute(26, attribute(socket.AF_INET6, attribute(8, b"\x01")))
            try:
                self.act(NEWLINK, 0, link(ifindex) + mode)
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):  # a kernel without IPv6
                    raise
        size = attribute(4, struct.pack("=I", mtu)) if mtu else b""
        self.act(NEWLINK, 0, link(ifindex, 1) + size)

    def add_address(self, ifindex: int, interface: IPv4Interface | IPv6Interface) -> None:
        """Add an address of scope global; IPv6 without duplicate address detection."""
        no_dad = 0x02 if interface.version == 6 else 0
        head = struct.pack("=BBBBI", _FAMILY[interface.version], interface.network.prefixlen, no_dad, 0, ifindex)
        local = interface.ip.packed
        self.act(_NEWADDR, CREATE | EXCL, head + attribute(2, local) + attribute(1, local))

    def add_route(self, network: Network, ifindex: int, *, kind: int = UNICAST, table: int = TABLE_MAIN) -> None:
        """Add one route; an equal one is replaced."""
        self.act(_NEWROUTE, CREATE | REPLACE, _route(network, ifindex, kind, table))

    def add_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        """Add many routes by way of a device; those that failed, EEXIST for a foreign one of the same prefix."""
        return self._change(_NEWROUTE, CREATE | EXCL, networks, ifindex)

    def remove_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        """Remove many; those that failed, ESRCH for one that is not there."""
        return self._change(_DELROUTE, 0, networks, ifindex)

    def routes(self, ifindex: int) -> list[Route]:
        """The routes of the main table by way of a device."""
        return [route for route in self.main_routes() if route.ifindex == ifindex]

    def main_routes(self) -> list[Route]:
        """The routes of the main table; an interrupted dump is taken again."""
        for _ in range(8):
            bodies, whole = self._kernel.dump(_GETROUTE, bytes(12))
            if whole:
                break
        found = filter(None, map(_parse_route, bodies))
        return [route for route in found if route.table == TABLE_MAIN]

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the answer to one request of ``kind``."""
        (answer,) = self._kernel.exchange(kind, 0, [body])
        if isinstance(answer, bytes):
            return answer
        raise answer or OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def match(self, addresses: Sequence[Address]) -> dict[Address, Route]:
        """The entry of the routing tables that decides each address; none for one that nothing routes."""
        found: dict[Address, Route] = {}
        for batch in _batches(addresses):
            head = [
                struct.pack("=BBBBBBBBI", _FAMILY[a.version], a.max_prefixlen, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
                + attribute(1, a.packed)
                for a in batch
            ]
            for address, answer in zip(batch, self._kernel.exchange(_GETROUTE, 0, head), strict=True):
                if isinstance(answer, bytes) and (route := _parse_route(answer)) is not None:
                    found[address] = route
        return found

    def prefer_outside(self, family: socket.AddressFamily) -> None:
        """Local senders consult the main table before the local one, so that an address may be both.

        Moves the rule for table local from preference 0 to 1, behind ``iif lo lookup main``.
        """
        rule = struct.pack("=BBBBBBBBI", family, 0, 0, 0, TABLE_MAIN, 0, 0, 1, 0)
        lo = attribute(3, b"lo\0")  # FRA_IIFNAME
        second = struct.pack("=BBBBBBBBI", family, 0, 0, 0, TABLE_LOCAL, 0, 0, 1, 0)
        self.act(_NEWRULE, CREATE | EXCL, second + attribute(6, struct.pack("=I", 1)))  # FRA_PRIORITY
        self.act(_DELRULE, 0, second + attribute(6, struct.pack("=I", 0)))
        self.act(_NEWRULE, CREATE | EXCL, rule + lo + attribute(6, struct.pack("=I", 0)))

    def _change(self, kind: int, flags: int, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        failed: dict[Network, OSError] = {}
        for batch in _batches(networks):
            bodies = [_route(network, ifindex, UNICAST, TABLE_MAIN) for network in batch]
            answers = zip(batch, self._kernel.exchange(kind, flags | ACK, bodies), strict=True)
            failed.update({network: answer for network, answer in answers if isinstance(answer, OSError)})
        return failed

    def act(self, kind: int, flags: int, body: bytes) -> None:
        """One request of ``kind``, acknowledged."""
        (answer,) = self._kernel.exchange(kind, flags | ACK, [body])
        if isinstance(answer, OSError):
            raise answer


def link(ifindex: int, up: int = 0) -> bytes:
    """The head of a message about a link (struct ifinfomsg), and the flag IFF_UP to be set."""
    return struct.pack("=BxHiII", 0, 0, ifindex, up, up)


def _route(network: Network, ifindex: int, kind: int, table: int) -> bytes:
    scope = 254 if kind == LOCAL else 253 if network.version == 4 else 0  # host, link, universe
    head = struct.pack("=BBBBBBBBI", _FAMILY[network.version], network.prefixlen, 0, 0, table, _STATIC, scope, kind, 0)
    target = attribute(1, network.network_address.packed) if network.prefixlen else b""
    return head + target + attribute(4, struct.pack("=I", ifindex))


@functools.lru_cache(maxsize=1 << 14)
def _parse_route(body: bytes) -> Route | None:
    """The route in a message, or None for one of a family that is not IP.

    The same messages come at every look at the table: reading them anew would be most of it.
    """
    family, length, _, _, table, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
    if family not in _BITS:
        return None
    found = dict(attributes(body[12:]))
    target = found.get(1, bytes(_BITS[family] // 8))
    ifindex = struct.unpack("=I", found[4])[0] if 4 in found else 0
    table = struct.unpack("=I", found[15])[0] if 15 in found else table
    gateway = not found.keys().isdisjoint({5, 9, 18})  # RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA
    network = ip_network((ip_address(target), length), strict=False)
    direct = kind == UNICAST and bool(ifindex and length) and not gateway and protocol in _WITH_ADDRESS
    return Route(network, ifindex, kind, gateway, table, ours=protocol == _STATIC, direct=direct)


def _batches(items: Sequence[Network] | Sequence[Address]) -> Iterator[Sequence]:  # type: ignore[type-arg]
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
