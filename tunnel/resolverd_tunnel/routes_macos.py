"""The routing table of macOS by route(8) and netstat(1). Never run on a Mac (docs/adr/0009-macos.md).

A program for every route and every look-up, some milliseconds each: rtnetlink's counterpart, route(4), would be faster.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from resolverd.names import Address, Network, address_of

from .netlink import LOCAL, UNICAST, Route
from .programs import NETSTAT, ROUTE, Finished, run_program

_ERRORS = (
    ("File exists", errno.EEXIST),
    ("not in table", errno.ESRCH),
    ("Network is unreachable", errno.ENETUNREACH),
    ("Operation not permitted", errno.EPERM),
    ("must be root", errno.EPERM),
)
"""What route says; its exit code is 0 after some of these in older versions of macOS."""
_ON_LINK = {"CLONING", "LLINFO"}
"""What ``route get`` says of a network that a link is on, and of a neighbour on it."""
_STATIC, _HOST, _CLONING = "S", "H", "C"


@dataclass(frozen=True, slots=True)
class RouteCommands:
    """As :class:`resolverd_tunnel.netlink.Netlink`, as far as routes go. OSError when a program cannot be run."""

    run: Callable[[Sequence[str]], Finished] = run_program
    name: Callable[[int], str] = socket.if_indextoname
    number: Callable[[str], int] = socket.if_nametoindex

    def add_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        """Add many routes by way of a device; those that failed, EEXIST for a foreign one of the same prefix."""
        return self._change("add", networks, ifindex)

    def remove_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        """Remove many; those that failed, ESRCH for one that is not there."""
        return self._change("delete", networks, ifindex)

    def main_routes(self) -> list[Route]:
        """All routes; ``direct`` are those to a network that a link of this host is on."""
        found: list[Route] = []
        for version, family in ((4, "inet"), (6, "inet6")):
            finished = self.run([NETSTAT, "-rn", "-f", family])
            rows = (line.split() for line in finished.out.splitlines())
            found += filter(None, (self._listed(row, version) for row in rows if len(row) >= 4))
        return found

    def _listed(self, row: Sequence[str], version: int) -> Route | None:
        """A row of netstat: destination, gateway, flags, link. None for the head of the table, and what is no route."""
        destination, gateway, flags, link = row[:4]
        network = _network(destination, flags, version)
        if network is None:
            return None
        try:
            number = self.number(link)
        except OSError:  # gone meanwhile
            return None
        through = address_of(_bare(gateway)) is not None
        direct = gateway.startswith("link#") and _CLONING in flags
        return Route(network, number, UNICAST, gateway=through, ours=_STATIC in flags, direct=direct)

    def match(self, addresses: Sequence[Address]) -> dict[Address, Route]:
        """The entry that decides each address; none for one that nothing routes."""
        found = {}
        for address in addresses:
            finished = self.run([ROUTE, "-n", "get", _family(address.version), str(address)])
            fields = dict(_fields(finished.out))
            if not finished.code and (route := self._route(address, fields)) is not None:
                found[address] = route
        return found

    def close(self) -> None:
        """Nothing is open."""

    def _change(self, verb: str, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        link, failed = self.name(ifindex), {}
        for network in networks:
            finished = self.run([ROUTE, "-n", verb, *_target(network), "-interface", link])
            if (error := _error(finished)) is not None:
                failed[network] = error
        return failed

    def _route(self, address: Address, fields: dict[str, str]) -> Route | None:
        """What ``route get`` says; a destination without a mask is a host's."""
        destination, mask, link = (fields.get(key, "") for key in ("destination", "mask", "interface"))
        if destination == "default" or mask == "default":
            network = ip_network("0.0.0.0/0" if address.version == 4 else "::/0")
        else:
            network = _masked(destination, mask) or ip_network(address)
        if not link:
            return None
        flags = set(fields.get("flags", "").strip("<>").split(","))
        kind = LOCAL if link.startswith("lo") or "LOCAL" in flags else UNICAST
        through = address_of(_bare(fields.get("gateway", ""))) is not None
        return Route(network, self.number(link), kind, gateway=through, direct=not through and bool(flags & _ON_LINK))


def _error(finished: Finished) -> OSError | None:
    said = f"{finished.out}\n{finished.err}"
    code = next((number for text, number in _ERRORS if text in said), errno.EIO if finished.code else 0)
    return OSError(code, os.strerror(code)) if code else None


def _target(network: Network) -> tuple[str, str, str]:
    family = _family(network.version)
    if network.prefixlen == network.max_prefixlen:
        return family, "-host", str(network.network_address)
    return family, "-net", str(network)


def _family(version: int) -> str:
    return "-inet" if version == 4 else "-inet6"


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(": ")
        if colon:
            yield key.strip(), value.strip()


def _masked(destination: str, mask: str) -> Network | None:
    address = address_of(_bare(destination))
    if address is None:
        return None
    bits = address_of(mask) if mask else None
    length = address.max_prefixlen if bits is None else int(bits).bit_count()
    return ip_network(f"{address}/{length}", strict=False)


def _network(text: str, flags: str, version: int) -> Network | None:
    """A destination as netstat writes it: 10.96.0.7, 10.96/16, 192.168.1, fd00:10:96::7, default."""
    bare, _, length = _bare(text).partition("/")
    if text == "default":
        return ip_network("0.0.0.0/0" if version == 4 else "::/0")
    if version == 4:
        octets = bare.split(".")
        length = length or ("32" if _HOST in flags else str(8 * len(octets)))
        bare = ".".join([*octets, *["0"] * (4 - len(octets))])
    try:
        return ip_network(f"{bare}/{length}" if length else bare, strict=False)
    except ValueError:  # link#5, an interface's name
        return None


def _bare(text: str) -> str:
    """Without the zone, which stands before the length: fe80::%utun0/64."""
    before, percent, after = text.partition("%")
    return before + (after[at:] if percent and (at := after.find("/")) >= 0 else "")
