"""What answers are computed from: a Snapshot, and the one thing it cannot tell, who has an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from enum import Enum
from typing import TypeVar

from resolverd.addresses import BLOCK_BITS, block_of, number_in, number_of
from resolverd.cluster.endpoints import Endpoints
from resolverd.cluster.objects import EndpointSlice, Pod, Service
from resolverd.cluster.snapshot import Key, Snapshot, Touched
from resolverd.cluster.table import Spread
from resolverd.names import Address, Network


class Everywhere(Enum):
    """Dependencies on more than one object."""

    ADDRESSES = "the set of all known addresses"


Dependency = Key | str | int | Everywhere
"""What an answer depends on: a service (namespace, name) with its slices, a namespace, the number of an address.

Or a pod's (namespace, address), which is no service's key: names have neither two dots nor a colon in them.
"""
Place = TypeVar("Place")
_Numbers = MutableMapping[int, tuple[Key, ...]]
"""Who has an address, by its number."""


class RecordIndex:
    """The newest Snapshot, and its addresses. Changed in place, between two questions, never during one."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._services: _Numbers = Spread()
        self._slices: _Numbers = Spread()
        self._blocks: Counter[int] = Counter()
        """Entries of the two by the block of their address."""
        self._nameless: _Numbers = Spread()
        """Slices by the addresses in them that give no names."""
        self._outer: _Numbers = Spread()
        """Services by addresses from outside, which give no names either."""
        self._pods: MutableMapping[Key, tuple[Key, ...]] = Spread()
        """Pods by namespace and address."""
        self.moved: set[int] = set()
        """Numbers of addresses behind which something changed with the last update, with names or without."""

    def update(self, after: Snapshot, touched: Touched) -> frozenset[Dependency]:
        """Take ``after``, which differs from the present Snapshot in ``touched``; what answers must be forgotten.

        Costs what the changed services and slices hold, not what the cluster holds.
        """
        before, self.snapshot = self.snapshot, after
        addresses: set[int] = set()
        others: set[int] = set()
        for key in touched.services:
            old, new = before.services.get(key), after.services.get(key)
            if old is not new:
                addresses |= self._move(self._services, key, _cluster_ips(old), _cluster_ips(new))
                others |= _move(self._outer, key, _outer_addresses(old), _outer_addresses(new))
        for old_slice, new_slice in _changed_slices(before, after, touched):
            key = (old_slice or new_slice or _NOTHING).key
            (was, was_nameless), (now, now_nameless) = _slice_addresses(old_slice), _slice_addresses(new_slice)
            addresses |= self._move(self._slices, key, was, now)
            others |= _move(self._nameless, key, was_nameless, now_nameless)
        changed = touched.namespaces | touched.services | self._update_pods(before, after, touched)
        self.moved = addresses | others
        if not addresses:
            return changed
        return frozenset({*changed, *addresses, Everywhere.ADDRESSES})

    def _update_pods(self, before: Snapshot, after: Snapshot, touched: Touched) -> frozenset[Dependency]:
        changed: set[Key] = set()
        for key in touched.pods:
            changed |= _move(self._pods, key, _pod_place(before.pods.get(key)), _pod_place(after.pods.get(key)))
        return frozenset(changed)

    def has_pod(self, namespace: str, address: str) -> bool:
        """Whether a pod in ``namespace`` has ``address``, in the spelling of the API."""
        return (namespace, address) in self._pods

    def service_with(self, address: Address) -> Key | None:
        """The service that has ``address`` as a cluster IP; the first by name when two claim it."""
        return min(self._services.get(number_of(address), ()), default=None)

    def slices_with(self, address: Address) -> Iterator[EndpointSlice]:
        """Slices of services that list ``address`` as ready, in the order of their names."""
        for key in sorted(self._slices.get(number_of(address), ())):
            yield self.snapshot.slices[key]

    def owners(self, address: Address) -> frozenset[Key]:
        """Every service that ``address`` may lead to, whether or not it has a name there, or exists."""
        number = number_of(address)
        slices = (*self._slices.get(number, ()), *self._nameless.get(number, ()))
        services = (*self._services.get(number, ()), *self._outer.get(number, ()))
        return frozenset({*services, *(self.snapshot.slices[key].service_key for key in slices)})

    def has_address_in(self, network: Network) -> bool:
        """Whether any address inside ``network`` has a name."""
        size, bits = network.max_prefixlen - network.prefixlen, BLOCK_BITS[network.version]
        first = number_of(network.network_address)
        if size < bits:
            return any(one in self._services or one in self._slices for one in range(first, first + (1 << size)))
        start, end = first >> bits, (first >> bits) + (1 << size - bits)
        return start in self._blocks or any(start <= block < end for block in self._blocks)

    def _move(self, table: _Numbers, owner: Key, before: set[int], after: set[int]) -> set[int]:
        """:func:`_move` for addresses that have names, which are counted by their blocks, too."""
        for number in before - after:
            if table[number] == (owner,):
                block = block_of(number)
                self._blocks[block] -= 1
                if not self._blocks[block]:
                    del self._blocks[block]
        self._blocks.update(block_of(number) for number in after - before if number not in table)
        return _move(table, owner, before, after)


_NOTHING = EndpointSlice("", "", "", Endpoints(), ())


def _cluster_ips(service: Service | None) -> set[int]:
    return _numbers(service.cluster_ips) if service else set()


def _outer_addresses(service: Service | None) -> set[int]:
    return _numbers(service.external_addresses) if service else set()


def _slice_addresses(item: EndpointSlice | None) -> tuple[set[int], set[int]]:
    """Those that give names, which are ready ones in a slice of a service, and the others."""
    named: list[str] = []
    nameless: list[str] = []
    for endpoint in item.endpoints if item else ():
        (named if endpoint.ready and item and item.service else nameless).extend(endpoint.addresses)
    return _numbers(named), _numbers(nameless)


def _numbers(texts: Iterable[str]) -> set[int]:
    return {number for text in texts if (number := number_in(text)) is not None}


def _changed_slices(
    before: Snapshot, after: Snapshot, touched: Touched
) -> Iterator[tuple[EndpointSlice | None, EndpointSlice | None]]:
    """Slices of the touched services as they were and as they are. Folding keeps unchanged objects themselves."""
    old = {item.key: item for key in touched.services for item in before.by_service.get(key, ())}
    new = {item.key: item for key in touched.services for item in after.by_service.get(key, ())}
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        if was is not now:
            yield was, now


def _pod_place(pod: Pod | None) -> set[Key]:
    return {(pod.namespace, pod.address)} if pod and pod.address else set()


def _move(
    table: MutableMapping[Place, tuple[Key, ...]], owner: Key, before: set[Place], after: set[Place]
) -> set[Place]:
    """Let ``owner`` have ``after`` instead of ``before``; returns both, since more than the owner may differ."""
    for place in before - after:
        kept = tuple(key for key in table[place] if key != owner)
        if kept:
            table[place] = kept
        else:
            del table[place]
    alone = (owner,)
    for place in after - before:
        table[place] = (*table[place], owner) if place in table else alone
    return before | after
