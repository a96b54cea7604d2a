"""Mappings of a hundred thousand entries of which a few change at a time: no change costs what is in them.

A dictionary of that size takes 5 to 10 ms to grow, also when as many entries go as come, and as long to copy: so long
nothing would be answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

SHARDS = 512
"""Dictionaries that a mapping is made of: each has some two hundred of a hundred thousand entries, where the hashes
are spread. That of an address is its last octet: pods of nodes that have a /24 each crowd the lower ones."""


class _Sharded(Mapping[K, V]):
    """What is found by its hash. The order is another one in each process."""

    __slots__ = ("_shards",)

    _shards: tuple[dict[K, V], ...]

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) % SHARDS][key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: V | T | None = None, /) -> V | T | None:
        return self._shards[hash(key) % SHARDS].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) % SHARDS]

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard


class Table(_Sharded[K, V]):
    """Immutable; what has not changed is shared with earlier tables."""

    __slots__ = ("_count",)

    _NOTHING: tuple[dict[K, V], ...] = ({},) * SHARDS

    def __init__(self) -> None:
        self._shards = self._NOTHING
        self._count = 0

    def changed(self, news: Mapping[K, V | None]) -> Table[K, V]:
        """The table with ``news`` in it; None stands for what is gone."""
        before, shards = self._shards, list(self._shards)
        count = self._count
        for key, item in news.items():
            place = hash(key) % SHARDS
            if shards[place] is before[place]:
                shards[place] = before[place].copy()
            shard = shards[place]
            count -= len(shard)
            if item is None:
                shard.pop(key, None)
            else:
                shard[key] = item
            count += len(shard)
        after = Table.__new__(Table)
        after._shards, after._count = tuple(shards), count
        return after

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[object, tuple[dict[K, V]]]:
        """Hashes are others in another process."""
        return as_table, (dict(self),)


def as_table(mapping: Mapping[K, V]) -> Table[K, V]:
    """``mapping`` itself, or a copy if it is none."""
    return mapping if isinstance(mapping, Table) else Table[K, V]().changed(mapping)


class Spread(_Sharded[K, V], MutableMapping[K, V]):
    """A dictionary that never grows all at once."""

    __slots__ = ()

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._shards = tuple({} for _ in range(SHARDS))
        self.update(items or {})

    def __setitem__(self, key: K, item: V) -> None:
        self._shards[hash(key) % SHARDS][key] = item

    def __delitem__(self, key: K) -> None:
        del self._shards[hash(key) % SHARDS][key]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __reduce__(self) -> tuple[object, tuple[dict[K, V]]]:
        """Hashes are others in another process."""
        return Spread, (dict(self),)
