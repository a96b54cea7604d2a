"""What we want of the host, and who can do it: values and protocols, no operating system in sight.

The whole desired state is one value. ``apply`` is idempotent, the empty value takes all of ours away, and
``revert`` works in a fresh process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from .names import Address, Network


@dataclass(frozen=True, slots=True)
class Server:
    """A DNS server the host shall ask."""

    address: Address
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostDns:
    """The resolver settings of our link. Domains are folded text names without ``~`` and final dot."""

    link: str = ""
    servers: tuple[Server, ...] = ()
    routing: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.servers or self.routing or self.search)


@dataclass(frozen=True, slots=True)
class OtherLink:
    """A link that is not ours, and the domains the host's resolver routes to it (or searches)."""

    name: str
    routing: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network that one of the host's links is directly on."""

    network: Network
    link: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about the host that the plan needs; gathered by the back end, never guessed by policy."""

    backend: str = "none"
    bus: str = ""
    """The library that talks to the host's resolver; empty: none is needed."""
    needs_link: bool = True
    """Whether the host is told by way of our link, so that nothing can be told without one."""
    takes_all: bool = False
    """Whether the host asks our server for every name, and not only for those in our domains."""
    mark: int = 0
    """Socket mark (SO_MARK) of questions that must not come back to us; 0: none is needed."""
    domain_limit: int = 0
    """Most domains a link takes; 0 is no limit."""
    host_search: tuple[str, ...] = ()
    other_links: tuple[OtherLink, ...] = ()
    nameservers: tuple[Address, ...] = ()
    """DNS servers the host asks without us."""
    gateways: tuple[Address, ...] = ()
    """Next hops of the host's default routes."""
    subnets: tuple[Subnet, ...] = ()
    """Networks the host is on, those of our own link left out."""


@dataclass(frozen=True, slots=True)
class HostRoutes:
    """What may be routed into the tunnel: most specific wins, ``never`` beats ``allowed`` at equal length."""

    allowed: tuple[Network, ...] = ()
    never: tuple[tuple[Network, str], ...] = ()
    """Networks that stay where they are, each with the reason shown in ``status``."""
    whole: bool = False
    """Whether the allowed networks are routed as they are, and not only their addresses that were answered."""
    sources: tuple[tuple[Network, str], ...] = ()
    """Where each allowed network comes from, for ``status``."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What the host really took."""

    dns: HostDns = field(default_factory=HostDns)
    notes: tuple[str, ...] = ()
    """Things worth telling the user, a line each (a tolerated missing method, for example)."""
    changed: bool = False
    """Whether anything had to be set: if nobody wished it otherwise, another program had changed it."""


class Returned(str):
    """A disturbance that is no other program's doing: the host's resolver, or the way to it, is there again.

    What was lost so is set again at once.
    """

    __slots__ = ()


class ResolverBackend(Protocol):
    """One way to tell a host's resolver which names are ours.

    Every method may raise :class:`resolverd.errors.HostError` or ``NoPermissionError``; none blocks longer
    than its own deadline of a few seconds.
    """

    name: str

    async def capabilities(self) -> Capabilities:
        """Facts for the plan; ``other_links`` leaves out our own link."""
        ...

    async def apply(self, want: HostDns) -> Applied:
        """Bring the host to ``want``; nothing is called when it is there already. Flushes caches on a change."""
        ...

    async def read(self) -> HostDns:
        """What is in force on our link now; the empty value when there is nothing of ours."""
        ...

    async def flush(self) -> None:
        """Drop the host's cached answers, because names of ours changed."""
        ...

    async def revert(self) -> None:
        """Take back everything of ours; idempotent, also in a fresh process."""
        ...

    def disturbances(self) -> AsyncIterator[str]:
        """Yields a reason whenever the host may have lost our settings, a :class:`Returned` where it restarted."""
        ...

    async def close(self) -> None:
        """Let go of connections; changes nothing on the host."""
        ...
