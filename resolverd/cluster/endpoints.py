"""Endpoints, of which there may be a hundred thousand: held packed, and made when somebody looks at them."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

_FORMAT = 2
"""Of ``marshal``: the newest in which equal values always have equal octets."""


class Endpoint(NamedTuple):
    """An address, or a few, of what stands behind a service."""

    addresses: tuple[str, ...]
    hostname: str
    ready: bool
    terminating: bool
    pod: str
    """Name of the pod behind it, in the slice's namespace; empty when it is no pod."""
    serving: bool = True
    """Whether it still answers, also while it terminates (KEP-1672)."""


def _row(endpoint: Endpoint) -> tuple[tuple[str, ...], str, bool, bool, str, bool]:
    """``endpoint`` as a plain tuple, which is what ``marshal`` takes."""
    addresses, hostname, ready, terminating, pod, serving = endpoint
    return addresses, hostname, ready, terminating, pod, serving


class Endpoints(Sequence[Endpoint]):
    """The endpoints of one slice, immutable. A sequence like any other; what it yields is made anew each time.

    A tuple of them would take four times the memory, and be copied to another process, compared and searched for
    cycles one by one. The octets never leave this program and its own processes, so ``marshal`` is safe here.
    """

    __slots__ = ("_count", "_packed")

    def __init__(self, endpoints: Iterable[Endpoint] = ()) -> None:
        rows = tuple(map(_row, endpoints))
        self._packed = marshal.dumps(rows, _FORMAT)
        self._count = len(rows)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Endpoint]:
        return map(Endpoint._make, marshal.loads(self._packed))  # noqa: S302  # see the class's docstring

    @overload
    def __getitem__(self, place: int) -> Endpoint: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Endpoint, ...]: ...
    def __getitem__(self, place: int | slice) -> Endpoint | tuple[Endpoint, ...]:
        return tuple(self)[place]

    def __eq__(self, other: object) -> bool:
        return self._packed == other._packed if isinstance(other, Endpoints) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._packed)

    def __repr__(self) -> str:
        return f"Endpoints({list(self)!r})"

    def __reduce__(self) -> tuple[object, tuple[bytes, int]]:
        return _unpickled, (self._packed, self._count)


def _unpickled(packed: bytes, count: int) -> Endpoints:
    made = Endpoints.__new__(Endpoints)
    made._packed, made._count = packed, count
    return made
