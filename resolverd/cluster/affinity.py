"""Which pod a client had last, for services whose clients keep theirs (``sessionAffinity: ClientIP``). Pure.

As kube-proxy does it: every connection renews the time, and a pod that comes back after a pause does not take its old
clients away from the pods they have gone to meanwhile. Each port of a service is a choice of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from resolverd.names import Address

from .snapshot import Key
from .target import Target

MOST = 65536
"""Choices kept; the one that was longest without a new connection goes first."""


class Session(NamedTuple):
    """One client of one port of a service."""

    service: Key
    port: int
    client: Address

    @property
    def turn(self) -> int:
        """Where to begin without a choice: the same place each time, so that a restart of ours moves few clients."""
        return crc32(f"{self.service} {self.port} {self.client}".encode())


@dataclass(slots=True)
class Affinity:
    """The choices in force. Times are seconds of any one clock."""

    _chosen: dict[Session, tuple[Target, float]] = field(default_factory=dict)

    def chosen(self, session: Session, now: float) -> Target | None:
        """The pod that ``session`` has, unless its time is over."""
        target, until = self._chosen.get(session, (None, 0.0))
        return target if now < until else None

    def keep(self, session: Session, target: Target, until: float) -> None:
        """``session`` has reached ``target``, and keeps it until then."""
        self._chosen.pop(session, None)
        self._chosen[session] = target, until
        if len(self._chosen) > MOST:
            del self._chosen[next(iter(self._chosen))]
