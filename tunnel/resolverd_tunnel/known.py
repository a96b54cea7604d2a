"""What this process knows of the cluster: who stands behind the addresses that are in use, and no more.

The DNS process has the whole cluster, computes never long, and says what is asked and every change of it
(:mod:`resolverd.behind`). An address is asked for when it is to be routed, so that mostly it is known when the first
packet comes. While a new DNS process gets in step, what the last one said goes on being used.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from resolverd.behind import Behind, Follow, Unfollow
from resolverd.cluster.objects import Service
from resolverd.cluster.snapshot import Change, Key, Kind, Snapshot, fold
from resolverd.cluster.target import Refusal, Target, TargetIndex
from resolverd.names import Address
from resolverd.parcels import Parcels

from .gate import NotYetError

PATIENCE = 10.0
"""Seconds that a connection waits until it is known where it goes; its client asks again afterwards."""
KEEP = 300.0
"""Seconds after its last use until an address is not followed any more."""
MOST = 16384
"""Addresses followed; the one that was longest not used goes first."""


@dataclass(slots=True)
class _Said:
    """What one DNS process has said."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    index: TargetIndex = field(default_factory=TargetIndex)
    known: set[Address] = field(default_factory=set)

    def take(self, news: Behind) -> None:
        gone = (change for key in news.forgotten for change in self._everything_of(key))
        for changes in (gone, news.changes):
            self.snapshot, touched = fold(self.snapshot, changes)
            self.index.fold(self.snapshot, touched)

    def _everything_of(self, key: Key) -> Iterable[Change]:
        yield Change(Kind.SERVICE, key, None)
        for item in self.snapshot.by_service.get(key, ()):
            yield Change(Kind.SLICE, item.key, None)


class Known:
    """The part of the cluster that is in use."""

    def __init__(self, end: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes over ``end``, one of the pair joined with the DNS process; ``clock`` is in seconds."""
        self._clock = clock
        self._used: dict[Address, float] = {}
        """The addresses that are followed, and when each was last used, the longest ago first."""
        self._asking: list[Address] = []
        """What is asked for in the next turn of the loop, all at once."""
        self._now = _Said()
        self._next: _Said | None = None
        """What a new DNS process has said, until it has said as much as the last one."""
        self._waiting: dict[Address, asyncio.Event] = {}
        self._parcels = Parcels(end, self._take, self._begin)

    def close(self) -> None:
        self._parcels.close()

    def _begin(self) -> None:
        """There is a new DNS process, which has to be asked everything again."""
        self._next = _Said()
        if self._used:
            self._parcels.send(Follow(tuple(self._used)))
        else:
            self._adopt()

    def _take(self, news: Behind) -> None:
        """The DNS process says something."""
        said = self._next or self._now
        said.take(news)
        said.known.update(address for address in news.addresses if address in self._used)
        self._adopt()

    def use(self, addresses: Iterable[Address]) -> None:
        """``addresses`` are needed, now or soon."""
        now = self._clock()
        was_asking = bool(self._asking)
        for address in addresses:
            if self._used.pop(address, None) is None:
                self._asking.append(address)
            self._used[address] = now
        if self._asking and not was_asking:
            asyncio.get_running_loop().call_soon(self._ask)
        if len(self._used) > MOST:
            self._forget(list(self._used)[: len(self._used) - MOST])

    def _ask(self) -> None:
        asking, self._asking = self._asking, []
        self._parcels.send(Follow(tuple(address for address in asking if address in self._used)))

    def tidy(self, is_in_use: Callable[[Address], bool]) -> None:
        """Follow no longer what nobody needs."""
        oldest = self._clock() - KEEP
        self._forget([address for address, used in self._used.items() if used < oldest and not is_in_use(address)])

    async def wait_for(self, address: Address) -> None:
        """Until it is known who stands behind ``address``. NotYetError."""
        self.use((address,))
        if address in self._now.known:
            return
        event = self._waiting.setdefault(address, asyncio.Event())
        try:
            async with asyncio.timeout(PATIENCE):
                await event.wait()
        except TimeoutError:
            raise NotYetError(f"it is not known yet what stands behind {address}") from None

    def find(self, address: Address, port: int, *, turn: int, first: Target | None) -> tuple[Target, ...] | Refusal:
        """The pods to try, see :meth:`resolverd.cluster.target.TargetIndex.find`."""
        return self._now.index.find(address, port, turn=turn, first=first)

    def affinity(self, address: Address) -> Service | None:
        """The service behind ``address``, if its clients are to keep their pod."""
        return self._now.index.affinity(address)

    def is_dns(self, address: Address) -> bool:
        """Whether ``address`` is a DNS service's, or may be: what is not known yet is found out by connecting."""
        self.use((address,))
        return address not in self._now.known or self._now.index.is_dns(address)

    def is_alive(self, address: Address) -> bool | None:
        """Whether something that is ready stands behind ``address``; None: it is not known yet."""
        self.use((address,))
        return self._now.index.is_alive(address) if address in self._now.known else None

    def _adopt(self) -> None:
        """Use what the new process said, if that is enough, and let those go on that wait for what is known now."""
        if self._next is not None and self._used.keys() <= self._next.known:
            self._now, self._next = self._next, None
        for address in self._waiting.keys() & self._now.known:
            self._waiting.pop(address).set()

    def _forget(self, addresses: list[Address]) -> None:
        for address in addresses:
            del self._used[address]
            for said in (self._now, self._next):
                if said is not None:
                    said.known.discard(address)
        if addresses:
            self._parcels.send(Unfollow(tuple(addresses)))
