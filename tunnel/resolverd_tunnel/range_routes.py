"""Routes for whole ranges (``tunnel.routes: cidrs``): what is left of them without what is never routed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

from resolverd.host import HostRoutes
from resolverd.names import Network

from .netlink import UNICAST, Route

MOST = 4096
"""Pieces; each network that is never routed splits a range into at most as many as it has more bits."""


class Kept(NamedTuple):
    """A network that stays where it is, and the route that owns it."""

    network: Network
    reason: str
    route: Route


def pieces(routes: HostRoutes) -> tuple[Network, ...]:
    """The networks to route: each allowed one without what ``never`` has in it. The most specific network wins."""
    found: dict[Network, None] = {}
    for network in routes.allowed:
        left = [network]
        for never, _ in routes.never:
            left = [part for piece in left for part in _without(piece, never, network)]
        found.update(dict.fromkeys(left))
    return tuple(found)[:MOST]


def decide(wanted: Iterable[Network], foreign: Sequence[Route]) -> tuple[tuple[Network, ...], tuple[Kept, ...]]:
    """Which of ``wanted`` to route beside what others have routed, and what stays theirs.

    A route of the same prefix is not replaced, and a network that a link is on is not taken, as a whole or in part.
    More specific routes win by themselves.
    """
    ours: list[Network] = []
    kept: dict[Kept, None] = {}
    for network in wanted:
        over = [route for route in foreign if _within(network, route.network)]
        owner = next((route for route in over if route.network == network or route.direct), None)
        if owner is not None:
            kept[Kept(owner.network, "own-subnet" if owner.direct else "foreign-route", owner)] = None
            continue
        ours.append(network)
        for route in foreign:
            if route.kind == UNICAST and _within(route.network, network):
                kept[Kept(route.network, "own-subnet" if route.direct else "foreign-route", route)] = None
    return tuple(ours), tuple(kept)


def _without(piece: Network, never: Network, allowed: Network) -> Iterable[Network]:
    """What ``never`` leaves of ``piece``, a part of ``allowed``, which is stronger when it is more specific."""
    if isinstance(piece, IPv4Network) != isinstance(never, IPv4Network) or never.prefixlen < allowed.prefixlen:
        return (piece,)
    if _within(piece, never):
        return ()
    return piece.address_exclude(never) if _within(never, piece) else (piece,)  # type: ignore[arg-type]  # one family


def _within(inner: Network, outer: Network) -> bool:
    """Whether all of ``inner`` is in ``outer``."""
    if isinstance(inner, IPv4Network) != isinstance(outer, IPv4Network):
        return False
    return inner.subnet_of(outer)  # type: ignore[arg-type]  # one family
