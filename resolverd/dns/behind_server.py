"""Tells the tunnel process who stands behind the addresses it asks for (:mod:`resolverd.behind`).

What has not been told yet is kept as the newest Change of each object: a tunnel process that does not read costs
memory for each object once.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

from resolverd.addresses import number_of
from resolverd.behind import Behind, Follow, Unfollow
from resolverd.cluster.snapshot import Change, Key, Kind, Snapshot, Touched
from resolverd.names import Address
from resolverd.parcels import Parcels

from .index import RecordIndex

MOST = 50
"""Changes in one message: taking them in must not keep the tunnel process from routing what is asked meanwhile."""


class BehindServer:
    """Answers from ``index``, once that is in step with the cluster."""

    def __init__(self, end: socket.socket, index: RecordIndex) -> None:
        """Takes over ``end``, one of a pair that keeps messages whole."""
        self._index = index
        self._followed: dict[Address, frozenset[Key]] = {}
        """The services behind each address, as they were told."""
        self._numbers: dict[int, Address] = {}
        """The addresses, by their numbers."""
        self._users: Counter[Key] = Counter()
        """How many of the addresses lead to each service."""
        self._forgotten: dict[Key, None] = {}
        self._changes: dict[tuple[Kind, Key], Change] = {}
        self._told: dict[Address, None] = {}
        self._parcels = Parcels(end, self._take, self._begin)
        self._parcels.on_sent = self._flush

    def look(self, before: Snapshot, touched: Touched) -> None:
        """The index has gone on from ``before``; ``touched`` is what differs."""
        if not self._index.snapshot.synced or not self._followed:
            return
        if not before.synced:
            self._follow(tuple(self._followed))
        else:
            for key in touched.services & self._users.keys():
                self._tell_changes(key, before)
            moved = self._index.moved & self._numbers.keys()
            self._follow([self._numbers[number] for number in moved], is_news=False)
        self._flush()

    def close(self) -> None:
        self._parcels.close()

    def _begin(self) -> None:
        """A tunnel process is there that knows nothing."""
        for table in (self._followed, self._numbers, self._users, self._forgotten, self._changes, self._told):
            table.clear()

    def _take(self, message: Any) -> None:
        if isinstance(message, Follow):
            for address in message.addresses:
                self._followed.setdefault(address, frozenset())
                self._numbers[number_of(address)] = address
            if self._index.snapshot.synced:
                self._follow(message.addresses)
        elif isinstance(message, Unfollow):
            for address in message.addresses:
                self._lead(address, frozenset())
                self._followed.pop(address, None)
                self._numbers.pop(number_of(address), None)
        self._flush()

    def _follow(self, addresses: Iterable[Address], *, is_news: bool = True) -> None:
        for address in addresses:
            self._lead(address, self._index.owners(address))
            if is_news:
                self._told[address] = None

    def _lead(self, address: Address, after: frozenset[Key]) -> None:
        """``address`` leads to these services from now on."""
        before = self._followed.get(address, frozenset[Key]())
        for key in after - before:
            self._users[key] += 1
            if self._users[key] == 1:
                self._tell_service(key)
        for key in before - after:
            self._users[key] -= 1
            if not self._users[key]:
                self._forget(key)
        self._followed[address] = after

    def _tell_service(self, key: Key) -> None:
        snapshot = self._index.snapshot
        self._tell(Change(Kind.SERVICE, key, snapshot.services.get(key)))
        for item in snapshot.by_service.get(key, ()):
            self._tell(Change(Kind.SLICE, item.key, item))

    def _tell_changes(self, key: Key, before: Snapshot) -> None:
        after = self._index.snapshot
        if before.services.get(key) is not after.services.get(key):
            self._tell(Change(Kind.SERVICE, key, after.services.get(key)))
        was, now = (each.by_service.get(key, ()) for each in (before, after))
        for item in {item.key: item for item in (*was, *now)}.values():
            found = after.slices.get(item.key)
            if found is not before.slices.get(item.key):
                is_followed = found is not None and found.service_key in self._users
                self._tell(Change(Kind.SLICE, item.key, found if is_followed else None))

    def _forget(self, key: Key) -> None:
        del self._users[key]
        self._forgotten[key] = None
        self._changes.pop((Kind.SERVICE, key), None)
        for item in self._index.snapshot.by_service.get(key, ()):
            if (Kind.SLICE, item.key) in self._changes:  # it may be known as another service's, whose it was
                self._tell(Change(Kind.SLICE, item.key, None))

    def _tell(self, change: Change) -> None:
        self._changes[change.kind, change.key] = change

    def _flush(self) -> None:
        if self._parcels.is_busy or not (self._forgotten or self._changes or self._told):
            return
        forgotten, changes, told = tuple(self._forgotten), tuple(self._changes.values()), tuple(self._told)
        for table in (self._forgotten, self._changes, self._told):
            table.clear()
        while len(changes) > MOST:
            self._parcels.send(Behind(forgotten, changes[:MOST]))
            forgotten, changes = (), changes[MOST:]
        self._parcels.send(Behind(forgotten, changes, told))
