"""What the daemon tells its worker processes, and what they tell it: values only, sent over a Channel.

Changes arrive in order and are folded by the DNS worker into a Snapshot of its own. What the tunnel worker needs of it
it asks that one (:mod:`resolverd.behind`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .cluster.access import Access
from .cluster.objects import EndpointSlice
from .cluster.snapshot import Change
from .host import HostRoutes


@dataclass(frozen=True, slots=True)
class Feed:
    """To the DNS worker: what changed in the cluster."""

    changes: tuple[Change, ...]
    synced: bool
    serial: int
    """Unix time, in seconds."""


def parts(changes: tuple[Change, ...], size: int) -> Iterator[tuple[Change, ...]]:
    """``changes`` in parts of about ``size`` objects and endpoints: what reading and folding one costs is bounded."""
    part: list[Change] = []
    weight = 0
    for change in changes:
        part.append(change)
        weight += 1 + (len(change.object.endpoints) if isinstance(change.object, EndpointSlice) else 0)
        if weight >= size:
            yield tuple(part)
            part, weight = [], 0
    if part:
        yield tuple(part)


@dataclass(frozen=True, slots=True)
class Routable:
    """To the tunnel worker: which addresses may be routed into the tunnel."""

    routes: HostRoutes


@dataclass(frozen=True, slots=True)
class Reach:
    """To the tunnel worker: how the API server is reached, anew whenever a credential changed."""

    access: Access | None
    """None: not at the moment."""


@dataclass(frozen=True, slots=True)
class Ask:
    """To a worker: report now."""


@dataclass(frozen=True, slots=True)
class LogLevel:
    """To every worker: what is logged from now on."""

    level: str


@dataclass(frozen=True, slots=True)
class Tail:
    """To the DNS worker: whether somebody wants to see the queries."""

    on: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A query and what became of it."""

    when: float
    """Unix time of the answer, in seconds."""
    client: str
    """An address."""
    query: bytes
    """The beginning of the message."""
    rcode: int
    seconds: float
    """From reading the question to sending the answer."""


@dataclass(frozen=True, slots=True)
class Tailed:
    """From the DNS worker, while it is wanted: queries, and how many there were besides."""

    seen: tuple[Seen, ...]
    dropped: int


@dataclass(frozen=True, slots=True)
class AskConnections:
    """To the tunnel worker: tell the connections."""


@dataclass(frozen=True, slots=True)
class Connections:
    """From the tunnel worker, when it was asked."""

    values: tuple[Mapping[str, object], ...]
    """Plain JSON values."""


@dataclass(frozen=True, slots=True)
class Report:
    """From a worker, when something changed or it was asked: its part of ``status``."""

    worker: str
    """``dns`` or ``tunnel``."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Plain JSON values under the keys of the status document."""


@dataclass(frozen=True, slots=True)
class FoundDomain:
    """From the DNS worker: what the cluster's DNS service says that its domain is."""

    domain: str


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker, once: it serves."""

    worker: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """From the dns worker: something it answered has changed, and the host may have cached it."""


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """From the tunnel worker: the API server answered 401; fresh credentials are wanted."""
