"""Prepared replies by question, and which of them a change touches."""

from __future__ import annotations

from collections.abc import Iterable

from .encode import Prepared
from .index import Dependency

MAX_ENTRIES = 16384
MAX_REPLY = 4096
"""Octets; a larger reply is prepared each time, so that the memo stays within a few tens of megabytes."""


class Memo:
    """A bounded table of replies; the oldest goes first."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self.entries: dict[bytes, Prepared] = {}
        """Read on the hot path; written by the methods below only."""
        self._limit = limit
        self._depends: dict[bytes, frozenset[Dependency]] = {}
        self._touching: dict[Dependency, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: bytes, reply: Prepared, depends: frozenset[Dependency]) -> None:
        """Keep ``reply`` until something in ``depends`` changes."""
        if len(reply.before) + len(reply.block) + len(reply.after) > MAX_REPLY:
            return
        self._drop(key)
        if len(self.entries) >= self._limit:
            self._drop(next(iter(self.entries)))
        self.entries[key] = reply
        self._depends[key] = depends
        for what in depends:
            self._touching.setdefault(what, set()).add(key)

    def forget(self, changed: Iterable[Dependency]) -> None:
        """Drop exactly the replies that depend on something in ``changed``."""
        for what in changed:
            for key in tuple(self._touching.get(what, ())):
                self._drop(key)

    def clear(self) -> None:
        self.entries.clear()
        self._depends.clear()
        self._touching.clear()

    def _drop(self, key: bytes) -> None:
        if self.entries.pop(key, None) is None:
            return
        for what in self._depends.pop(key):
            keys = self._touching[what]
            keys.discard(key)
            if not keys:
                del self._touching[what]
