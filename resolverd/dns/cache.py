"""What other servers said, kept for as long as it may be, and somewhat longer for when they cannot be asked."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .foreign import Foreign
from .outward import Key

MAX_ENTRIES = 10_000
MAX_OCTETS = 8 * 1024 * 1024
"""Of all entries together."""
MAX_STALE = 86_400.0
"""Seconds that a reply may be used beyond its time (RFC 8767 5: one to three days)."""
_OVERHEAD = 500
"""Octets that an entry takes besides its messages, roughly."""
_ROW = 100
"""Octets that an entry takes for each record, roughly."""


@dataclass(slots=True, eq=False)
class Kept:
    """A reply and its age."""

    reply: Foreign
    since: float
    """When it came; every time here is the loop's, in seconds."""
    ask_again: float = 0.0
    """Not before this moment: whoever was asked for something newer could not answer."""

    def age(self, now: float) -> int:
        return max(int(now - self.since), 0)

    def is_fresh(self, now: float) -> bool:
        return now < self.since + self.reply.lifetime

    @property
    def octets(self) -> int:
        return _OVERHEAD + len(self.reply.question) + len(self.reply.data) + _ROW * len(self.reply.rows)


class Cache:
    """A bounded table of replies; what was not used for longest goes first."""

    def __init__(self, entries: int = MAX_ENTRIES, octets: int = MAX_OCTETS) -> None:
        self._limits = (entries, octets)
        self._entries: OrderedDict[Key, Kept] = OrderedDict()
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Kept | None:
        """What is kept under ``key``, fresh or stale; what is too old is dropped."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        if now >= kept.since + kept.reply.lifetime + MAX_STALE:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return kept

    def put(self, key: Key, reply: Foreign, now: float) -> None:
        """Keep ``reply`` if it may be kept; what was kept before goes in any case."""
        self._drop(key)
        if not reply.lifetime:
            return
        kept = self._entries[key] = Kept(reply, now)
        self.octets += kept.octets
        entries, octets = self._limits
        while len(self._entries) > entries or self.octets > octets:
            self._drop(next(iter(self._entries)))

    def age(self, seconds: float) -> None:
        """Everything is ``seconds`` older than the clock says: the host has slept."""
        for kept in self._entries.values():
            kept.since -= seconds

    def clear(self) -> None:
        self._entries.clear()
        self.octets = 0

    def _drop(self, key: Key) -> None:
        kept = self._entries.pop(key, None)
        if kept is not None:
            self.octets -= kept.octets
