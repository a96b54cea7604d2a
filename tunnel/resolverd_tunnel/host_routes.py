"""Host routes on the tunnel's device: for addresses that were answered, may be routed, and are still needed.

With ``tunnel.routes: cidrs`` for whole ranges, too; answered addresses outside them still get their own.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Protocol

from resolverd.host import HostRoutes
from resolverd.names import Address, Network

from .device_linux import PEER_NETWORKS
from .netlink import LOCAL, Route
from .permits import Permits
from .range_routes import Kept, decide, pieces

log = logging.getLogger(__name__)

KEEP = 300.0
"""Seconds that a route outlives the last answer with its address, unless a connection uses it."""
MOST = 16384
"""Addresses; the one that was longest not asked for goes first."""


class RouteTable(Protocol):
    """The host's routing table, as far as we need it."""

    def add_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]: ...

    def remove_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]: ...

    def main_routes(self) -> list[Route]: ...

    def match(self, addresses: Sequence[Address]) -> dict[Address, Route]: ...


class RouteKeeper:
    """Keeps the routes on one device. Clocks are in seconds."""

    def __init__(self, table: RouteTable, ifindex: int, clock: Callable[[], float]) -> None:
        self._table = table
        self._ifindex = ifindex
        self._clock = clock
        self._routes: HostRoutes | None = None
        self._permits = Permits(HostRoutes())
        self._wanted: dict[Address, float] = {}
        """When each address was last asked for, the longest ago first."""
        self.present: dict[Address, str] = {}
        """Those that are routed, and how ``status`` has it: made once, it is looked at every second."""
        self.skipped: dict[Address, str] = {}
        """Wanted and not routed, and why."""
        self.owners: dict[Address, str] = {}
        """The route that has an address which is therefore not routed."""
        self.ranges: dict[Network, None] = {}
        """Those routed as a whole."""
        self.kept: tuple[Kept, ...] = ()
        """What others have of them."""
        for network in self._split()[0]:  # what an earlier process added: the device outlives us
            if network.prefixlen < network.max_prefixlen:
                self.ranges[network] = None
                continue
            self.present[network.network_address] = str(network)
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
        self._routes, self._permits = routes, Permits(routes)
        self._remove([address for address in self.present if self._permits.withheld(address)])
        self.skipped.clear()
        self.owners.clear()
        if routes.whole or self.ranges:
            self.look()
        else:
            self._add_missing()

    def tidy(self, is_in_use: Callable[[Address], bool]) -> None:
        """Remove routes nobody needs any more, and bring back those that somebody else removed."""
        oldest = self._clock() - KEEP
        self._forget([a for a, held in self._wanted.items() if held < oldest and not is_in_use(a)])
        self.look()

    def is_routed(self, address: Address) -> bool:
        """Whether ``address`` has a route of ours."""
        return address in self.present or any(address in network for network in self.ranges)

    def shown(self) -> list[str]:
        """Every route of ours, for ``status``."""
        return [*map(str, self.ranges), *self.present.values()]

    def not_routed(self) -> list[dict[str, str]]:
        """What is wanted and stays where it is, for ``status``: why, and the route that has it, if one has."""
        addresses = [
            {"net": str(a), "reason": why} | ({"route": self.owners[a]} if a in self.owners else {})
            for a, why in self.skipped.items()
        ]
        return addresses + [{"net": str(k.network), "reason": k.reason, "route": str(k.route)} for k in self.kept]

    def look(self) -> None:
        """Follow what has changed in the host's routing: what others removed of ours, and what is theirs now."""
        ours, foreign = self._split()
        direct = [route.network for route in foreign if route.direct]
        taken = [address for address in self.present if any(address in network for network in direct)]
        self._remove(taken)
        there = {network.network_address for network in ours if network.prefixlen == network.max_prefixlen}
        for address in [address for address in self.present if address not in there]:
            del self.present[address]
        self._set_ranges(ours, foreign)
        self._add_missing()

    def _split(self) -> tuple[set[Network], list[Route]]:
        """The routes of the main table: those that we added here, and those of others."""
        found = [route for route in self._table.main_routes() if route.network not in PEER_NETWORKS]
        ours = {route.network for route in found if route.ifindex == self._ifindex and route.ours}
        return ours, [route for route in found if route.ifindex != self._ifindex]

    def _set_ranges(self, there: set[Network], foreign: Sequence[Route]) -> None:
        if self._routes is None:
            return
        wanted, self.kept = decide(pieces(self._routes), foreign) if self._routes.whole else ((), ())
        gone = [network for network in self.ranges if network not in wanted]
        for network, error in self._table.remove_routes(gone, self._ifindex).items():
            if error.errno != errno.ESRCH:
                log.warning("route to %s stays: %s", network, error.strerror)
        new = [network for network in wanted if network not in there]
        failed = self._table.add_routes(new, self._ifindex)
        for network, error in failed.items():
            log.warning("no route to %s: %s", network, error.strerror)
        self.ranges = {network: None for network in wanted if network not in failed}

    def _add_missing(self) -> None:
        self._add([address for address in self._wanted if address not in self.present])

    def _add(self, addresses: Sequence[Address]) -> None:
        if self._routes is None:  # they wait until it is known what may be routed
            return
        permitted = []
        for address in addresses:
            if reason := self._permits.withheld(address):
                self._skip(address, reason)
            elif not any(address in network for network in self.ranges):
                permitted.append(address)
        if not permitted:
            return
        free = self._undisputed(permitted)
        failed = self._table.add_routes([ip_network(address) for address in free], self._ifindex)
        for address, error in ((address, failed.get(ip_network(address))) for address in free):
            if error is None:
                self.present[address] = f"{address}/{address.max_prefixlen}"
                self.skipped.pop(address, None)
                self.owners.pop(address, None)
            else:
                self._skip(address, "foreign-route" if error.errno == errno.EEXIST else error.strerror or str(error))
        self._give_up_idle([address for address in free if address in self.present])

    def _give_up_idle(self, addresses: Sequence[Address]) -> None:
        """Take back routes that decide nothing: a rule of somebody's looks into another table first."""
        matches = self._table.match(addresses)
        idle = [a for a in addresses if (route := matches.get(a)) is not None and route.ifindex != self._ifindex]
        self._remove(idle)
        for address in idle:
            self.owners[address] = str(matches[address])
            self._skip(address, "foreign-route")

    def _undisputed(self, addresses: Sequence[Address]) -> list[Address]:
        """Those of ``addresses`` whose routing may be changed; the others are noted with the route that has them."""
        matches = self._table.match(addresses)
        free = []
        for address in addresses:
            route = matches.get(address)
            if reason := self._conflict(route):
                self.owners[address] = str(route)
                self._skip(address, reason)
            else:
                free.append(address)
        return free

    def _conflict(self, route: Route | None) -> str:
        """Why the host's own routing of an address stands.

        It is the host's own, or of a network that one of its links is on, or somebody has routed just this address.
        A more general route of others, a VPN's for example, forbids nothing.
        """
        if route is None or route.ifindex == self._ifindex:
            return ""
        if route.kind == LOCAL:
            return "own-address"
        if route.direct:
            return "own-subnet"
        return "foreign-route" if route.network.prefixlen == route.network.max_prefixlen else ""

    def _skip(self, address: Address, reason: str) -> None:
        if self.skipped.get(address) != reason:
            self.skipped[address] = reason
            owner = f" ({self.owners[address]})" if address in self.owners else ""
            log.info("%s is answered and not routed: %s%s", address, reason, owner)

    def _forget(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            self._wanted.pop(address, None)
            self.skipped.pop(address, None)
            self.owners.pop(address, None)
        self._remove([address for address in addresses if address in self.present])

    def _remove(self, addresses: Sequence[Address]) -> None:
        failed = self._table.remove_routes([ip_network(address) for address in addresses], self._ifindex)
        for address in addresses:
            self.present.pop(address, None)
            error = failed.get(ip_network(address))
            if error is not None and error.errno != errno.ESRCH:
                log.warning("route to %s stays: %s", address, error.strerror)
