"""What answers are computed from: a Snapshot, and the one thing it cannot tell, who has an address."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TypeVar

from resolverd.cluster.objects import EndpointSlice, Pod, Service
from resolverd.cluster.snapshot import Key, Snapshot, Touched
from resolverd.names import Address, Network, address_of


class Everywhere(Enum):
    """Dependencies on more than one object."""

    ADDRESSES = "the set of all known addresses"


Dependency = Key | str | Address | Everywhere
"""What an answer depends on: a service (namespace, name) with its slices, a namespace, a reverse address.

Or a pod's (namespace, address), which is no service's key: names have neither two dots nor a colon in them.
"""
Place = TypeVar("Place")


class RecordIndex:
    """The newest Snapshot, and its addresses. Changed in place, between two questions, never during one."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._services: dict[Address, tuple[Key, ...]] = {}
        self._slices: dict[Address, tuple[Key, ...]] = {}
        self._pods: dict[Key, tuple[Key, ...]] = {}
        """Pods by namespace and address."""
        self._sorted: dict[int, list[int]] = {}

    def update(self, after: Snapshot, touched: Touched) -> frozenset[Dependency]:
        """Take ``after``, which differs from the present Snapshot in ``touched``; what answers must be forgotten.

        Costs what the changed services and slices hold, not what the cluster holds.
        """
        before, self.snapshot = self.snapshot, after
        addresses: set[Address] = set()
        for key in touched.services:
            old, new = before.services.get(key), after.services.get(key)
            if old is not new:
                addresses |= _move(self._services, key, _cluster_ips(old), _cluster_ips(new))
        for old_slice, new_slice in _changed_slices(before, after, touched):
            key = (old_slice or new_slice or _NOTHING).key
            addresses |= _move(self._slices, key, _slice_addresses(old_slice), _slice_addresses(new_slice))
        changed = touched.namespaces | touched.services | self._update_pods(before, after, touched)
        if not addresses:
            return changed
        self._sorted.clear()
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
        return min(self._services.get(address, ()), default=None)

    def slices_with(self, address: Address) -> Iterator[EndpointSlice]:
        """Slices of services that list ``address`` as ready, in the order of their names."""
        for key in sorted(self._slices.get(address, ())):
            yield self.snapshot.slices[key]

    def has_address_in(self, network: Network) -> bool:
        """Whether any address inside ``network`` has a name."""
        ordered = self._sorted.get(network.version)
        if ordered is None:
            known = {*self._services, *self._slices}
            ordered = sorted(int(address) for address in known if address.version == network.version)
            self._sorted[network.version] = ordered
        place = bisect_left(ordered, int(network.network_address))
        return place < len(ordered) and ordered[place] <= int(network.broadcast_address)


_NOTHING = EndpointSlice("", "", "", (), ())


def plain_address(text: str) -> Address | None:
    """The address ``text`` spells, an IPv4-mapped IPv6 address as the IPv4 address it is; None for other text."""
    address = address_of(text)
    if address is not None and address.version == 6 and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _cluster_ips(service: Service | None) -> set[Address]:
    return _addresses(service.cluster_ips) if service else set()


def _slice_addresses(item: EndpointSlice | None) -> set[Address]:
    """Those that give names: ready ones, in a slice of a service."""
    if item is None or not item.service:
        return set()
    return _addresses(text for endpoint in item.endpoints if endpoint.ready for text in endpoint.addresses)


def _addresses(texts: Iterable[str]) -> set[Address]:
    return {address for text in texts if (address := plain_address(text)) is not None}


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


def _move(table: dict[Place, tuple[Key, ...]], owner: Key, before: set[Place], after: set[Place]) -> set[Place]:
    """Let ``owner`` have ``after`` instead of ``before``; returns both, since names and readiness may differ too."""
    for place in before - after:
        kept = tuple(key for key in table[place] if key != owner)
        if kept:
            table[place] = kept
        else:
            del table[place]
    for place in after - before:
        table[place] = (*table.get(place, ()), owner)
    return before | after
