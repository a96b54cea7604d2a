"""A mapping of ten thousand objects of which a few change at a time: the next one costs what changed, not a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

ROOM = 256
"""Changes on top of what is shared with earlier tables, at most; above that everything is copied once."""


class Table(Mapping[K, V]):
    """Immutable. What earlier tables had is shared with them, and what has changed since lies on top of it."""

    __slots__ = ("_base", "_count", "_top")

    def __init__(self, base: Mapping[K, V] | None = None) -> None:
        self._base: dict[K, V] = dict(base or {})
        self._top: dict[K, V | None] = {}
        """None: gone."""
        self._count = len(self._base)

    def changed(self, news: Mapping[K, V | None]) -> Table[K, V]:
        """The table with ``news`` in it; None stands for what is gone."""
        if len(self._top) + len(news) <= ROOM:
            after = Table.__new__(Table)
            after._base, after._top = self._base, {**self._top, **news}
            after._count = self._count + sum((item is not None) - (key in self) for key, item in news.items())
            return after
        merged = self._base.copy()
        for changes in (self._top, news):
            for key, item in changes.items():
                if item is None:
                    merged.pop(key, None)
                else:
                    merged[key] = item
        after = Table.__new__(Table)
        after._base, after._top, after._count = merged, {}, len(merged)
        return after

    def __getitem__(self, key: K) -> V:
        item = self._top[key] if key in self._top else self._base[key]
        if item is None:
            raise KeyError(key)
        return item

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: V | T | None = None, /) -> V | T | None:
        item = self._top[key] if key in self._top else self._base.get(key)
        return default if item is None else item

    def __contains__(self, key: object) -> bool:
        return self._top[key] is not None if key in self._top else key in self._base

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._base if key not in self._top)
        yield from (key for key, item in self._top.items() if item is not None)


def as_table(mapping: Mapping[K, V]) -> Table[K, V]:
    """``mapping`` itself, or a copy if it is none."""
    return mapping if isinstance(mapping, Table) else Table(mapping)
