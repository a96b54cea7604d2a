"""Whom the host asks for a name: the link and the server, by what the links were told. Pure.

systemd-resolved asks the links with the longest domain that the name lies in, routing and search domains alike; a
single label goes to no server by itself. A resolver that is overridden as a whole asks us everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .dns.rules import Labels
from .host import Capabilities, HostDns
from .names import is_under, labels


@dataclass(frozen=True, slots=True)
class HostRoute:
    """Where a name goes."""

    is_ours: bool
    link: str = ""
    """The link's name; empty: none in particular."""
    domain: str = ""
    """The domain by which it goes there, as resolvectl shows it."""
    servers: tuple[str, ...] = ()
    """Ours; whom other links ask is not said here."""
    why: str = ""


def route_of(asked: Labels, told: HostDns, capabilities: Capabilities) -> HostRoute:
    """Where ``asked``, a whole name, goes on a host whose resolver was told ``told`` by us."""
    servers = tuple(map(str, told.servers))
    if not told:
        return HostRoute(False, why="the host's resolver is told nothing")
    if capabilities.takes_all:
        return HostRoute(True, told.link, "", servers, "every name of this host is asked of our server")
    own = _longest(asked, (*told.routing, *told.search))
    link, other = max(
        ((each.name, _longest(asked, (*each.routing, *each.search))) for each in capabilities.other_links),
        key=lambda found: len(labels(found[1])),
        default=("", ""),
    )
    if other and len(labels(other)) > len(labels(own)):
        return HostRoute(False, link, f"~{other}", why=f"link {link} has the domain ~{other}")
    if not own:
        return HostRoute(False, why="no domain of ours has it, so the usual servers are asked")
    shown = own if own in told.search else f"~{own}"
    return HostRoute(True, told.link, shown, servers, f"link {told.link} has the domain {shown}")


def _longest(asked: Labels, domains: Iterable[str]) -> str:
    return max(
        (each for each in domains if is_under(asked, labels(each))), key=lambda each: len(labels(each)), default=""
    )
