"""Host routes on the tunnel's device: for addresses that were answered, may be routed, and are still needed."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Protocol

from resolverd.host import HostRoutes
from resolverd.names import Address, Network
from resolverd.routes import FIXED

from .netlink import LOCAL, Route

log = logging.getLogger(__name__)

KEEP = 300.0
"""Seconds that a route outlives the last answer with its address, unless a connection uses it."""
MOST = 16384
"""Addresses; the one that was longest not asked for goes first."""


class RouteTable(Protocol):
    """The host's routing table, as far as we need it."""

    def add_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]: ...

    def remove_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]: ...

    def routes(self, ifindex: int) -> list[Route]: ...

    def match(self, addresses: Sequence[Address]) -> dict[Address, Route]: ...


def withheld(routes: HostRoutes, address: Address) -> str:
    """Why ``address`` may not be routed; empty when it may. The most specific network decides, ``never`` on a tie."""
    for network, reason in FIXED:
        if address in network:
            return reason
    allowed = max((n.prefixlen for n in routes.allowed if address in n), default=-1)
    length, reason = max(((n.prefixlen, why) for n, why in routes.never if address in n), default=(-1, ""))
    if allowed < 0:
        return "outside-cluster-ranges"
    return reason if length >= allowed else ""


class RouteKeeper:
    """Keeps the routes on one device. Clocks are in seconds."""

    def __init__(self, table: RouteTable, ifindex: int, clock: Callable[[], float]) -> None:
        self._table = table
        self._ifindex = ifindex
        self._clock = clock
        self._routes: HostRoutes | None = None
        self._wanted: dict[Address, float] = {}
        """When each address was last asked for, the longest ago first."""
        self.present: dict[Address, None] = {}
        self.skipped: dict[Address, str] = {}
        """Wanted and not routed, and why."""
        for network in self._on_device():  # what an earlier process added: the device outlives us
            self.present[network.network_address] = None
            self._wanted[network.network_address] = clock()

    def hold(self, addresses: Iterable[Address]) -> None:
        """Want routes to ``addresses``; those that may be there are there on return."""
        now = self._clock()
        new = []
        for address in addresses:
            self._wanted.pop(address, None)
            self._wanted[address] = now
            if address not in self.present:
                new.append(address)
        if new:
            self._add(new)
        if len(self._wanted) > MOST:
            self._forget(list(self._wanted)[: len(self._wanted) - MOST])

    def permit(self, routes: HostRoutes) -> None:
        """From now on only what ``routes`` allows."""
        self._routes = routes
        self._remove([address for address in self.present if withheld(routes, address)])
        self.skipped.clear()
        self._add_missing()

    def tidy(self, is_in_use: Callable[[Address], bool]) -> None:
        """Remove routes nobody needs any more, and bring back those that somebody else removed."""
        oldest = self._clock() - KEEP
        self._forget([a for a, held in self._wanted.items() if held < oldest and not is_in_use(a)])
        there = {network.network_address for network in self._on_device()}
        for address in [address for address in self.present if address not in there]:
            del self.present[address]
        self._add_missing()

    def _on_device(self) -> list[Network]:
        found = self._table.routes(self._ifindex)
        return [r.network for r in found if r.ours and r.network.prefixlen == r.network.max_prefixlen]

    def _add_missing(self) -> None:
        self._add([address for address in self._wanted if address not in self.present])

    def _add(self, addresses: Sequence[Address]) -> None:
        if self._routes is None:  # they wait until it is known what may be routed
            return
        permitted = []
        for address in addresses:
            if reason := withheld(self._routes, address):
                self._skip(address, reason)
            else:
                permitted.append(address)
        if not permitted:
            return
        matches = self._table.match(permitted)
        free = []
        for address in permitted:
            if reason := self._conflict(matches.get(address)):
                self._skip(address, reason)
            else:
                free.append(address)
        failed = self._table.add_routes([ip_network(address) for address in free], self._ifindex)
        for address in free:
            error = failed.get(ip_network(address))
            if error is None:
                self.present[address] = None
                self.skipped.pop(address, None)
            else:
                self._skip(address, "foreign-route" if error.errno == errno.EEXIST else error.strerror or str(error))

    def _conflict(self, route: Route | None) -> str:
        """Why the host's own routing of an address stands: it is the host's, or of a network it is joined to."""
        if route is None or route.ifindex == self._ifindex:
            return ""
        if route.kind == LOCAL:
            return "own-address"
        connected = route.ifindex and not route.gateway and route.network.prefixlen
        return "own-subnet" if connected else ""

    def _skip(self, address: Address, reason: str) -> None:
        if self.skipped.get(address) != reason:
            self.skipped[address] = reason
            log.info("%s is answered and not routed: %s", address, reason)

    def _forget(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            self._wanted.pop(address, None)
            self.skipped.pop(address, None)
        self._remove([address for address in addresses if address in self.present])

    def _remove(self, addresses: Sequence[Address]) -> None:
        failed = self._table.remove_routes([ip_network(address) for address in addresses], self._ifindex)
        for address in addresses:
            self.present.pop(address, None)
            error = failed.get(ip_network(address))
            if error is not None and error.errno != errno.ESRCH:
                log.warning("route to %s stays: %s", address, error.strerror)
