"""Prepared replies by question, and which of them a change touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .encode import Prepared
from .index import Dependency

MAX_ENTRIES = 16384
MAX_OCTETS = 32 * 1024 * 1024
"""Of all replies together, in memory."""
MAX_SPELLINGS = 4
"""Messages kept for each reply: clients that turn letters at random have a new one each time."""


@dataclass(slots=True)
class Spelled:
    """A message that came before, and its reply."""

    start: bytes
    """What of the reply lies between the id and ``prepared``: flags, counts and question."""
    prepared: Prepared


class Memo:
    """A bounded table of replies; the oldest goes first."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self.entries: dict[bytes, Prepared] = {}
        """Read on the hot path; written by the methods below only."""
        self.spelled: dict[bytes, Spelled] = {}
        """Whole messages without their ids, and their replies. Read on the hot path, as ``entries`` is."""
        self._spellings: dict[bytes, list[bytes]] = {}
        self._octets = 0
        self._limit = limit
        self._depends: dict[bytes, frozenset[Dependency]] = {}
        self._touching: dict[Dependency, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: bytes, reply: Prepared, depends: frozenset[Dependency]) -> None:
        """Keep ``reply`` until something in ``depends`` changes."""
        self._drop(key)
        self.entries[key] = reply
        self._octets += reply.weight
        self._depends[key] = depends
        for what in depends:
            self._touching.setdefault(what, set()).add(key)
        while len(self.entries) > self._limit or self._octets > MAX_OCTETS:
            self._drop(next(iter(self.entries)))

    def spell(self, key: bytes, message: bytes, start: bytes) -> None:
        """``message``, which has no id, is answered by ``start`` and the reply kept under ``key``."""
        spellings = self._spellings.setdefault(key, [])
        if len(spellings) < MAX_SPELLINGS and message not in self.spelled:
            spellings.append(message)
            self.spelled[message] = Spelled(start, self.entries[key])

    def forget(self, changed: Iterable[Dependency]) -> bool:
        """Drop exactly the replies that depend on something in ``changed``; whether there were any."""
        before = len(self.entries)
        for what in changed:
            for key in tuple(self._touching.get(what, ())):
                self._drop(key)
        return len(self.entries) < before

    def clear(self) -> None:
        self.entries.clear()
        self.spelled.clear()
        self._spellings.clear()
        self._octets = 0
        self._depends.clear()
        self._touching.clear()

    def _drop(self, key: bytes) -> None:
        reply = self.entries.pop(key, None)
        if reply is None:
            return
        for message in self._spellings.pop(key, ()):
            del self.spelled[message]
        self._octets -= reply.weight
        for what in self._depends.pop(key):
            keys = self._touching[what]
            keys.discard(key)
            if not keys:
                del self._touching[what]
