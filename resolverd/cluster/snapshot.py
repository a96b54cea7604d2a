"""The cluster at one moment: an immutable value, and the one function that folds changes into the next.

The watcher and the DNS process each hold a Snapshot and feed it the same changes, so what travels between them is
small, and each knows exactly what a change touched; the tunnel process holds one of the part that is in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from .objects import ClusterObject, EndpointSlice, Namespace, Pod, PodList, Service
from .table import Table, as_table

K = TypeVar("K")
V = TypeVar("V", bound=ClusterObject)

Key = tuple[str, str]
"""Namespace and name; a Namespace and a PodList have ``("", name of the namespace)``."""


class Kind(StrEnum):
    """The kinds that are watched."""

    NAMESPACE = "namespaces"
    SERVICE = "services"
    SLICE = "endpointslices"
    POD = "pods"
    """Only while the settings want them verified."""
    POD_LIST = "podlists"
    """That a list of pods is complete; not a kind of the API."""


class Change(NamedTuple):
    """An object as it is now; ``object`` None means that it is gone."""

    kind: Kind
    key: Key
    object: ClusterObject | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of the cluster."""

    namespaces: Mapping[str, Namespace] = field(default_factory=Table)
    services: Mapping[Key, Service] = field(default_factory=Table)
    slices: Mapping[Key, EndpointSlice] = field(default_factory=Table)
    by_service: Mapping[Key, tuple[EndpointSlice, ...]] = field(default_factory=Table)
    """Slices of a service (namespace, service name), in the order of their names. The service may not exist."""
    pods: Mapping[Key, Pod] = field(default_factory=Table)
    pod_lists: Mapping[Key, PodList] = field(default_factory=Table)
    synced: bool = False
    """Whether every kind but the pods has been listed once. Not synced is not empty: nothing may be denied yet."""
    serial: int = 0
    """Unix time, in seconds, of the last change: the serial of the zone's SOA."""
    dns_services: frozenset[Key] = frozenset()
    """Services with the label of the cluster's DNS: not to be looked for among ten thousand."""

    def has_pods_of(self, namespace: str) -> bool:
        """Whether the pods of ``namespace`` have been listed."""
        return ("", "") in self.pod_lists or ("", namespace) in self.pod_lists


@dataclass(frozen=True, slots=True)
class Touched:
    """What a fold changed: names of namespaces, and (namespace, service) keys whose answers may differ now."""

    namespaces: frozenset[str] = frozenset()
    services: frozenset[Key] = frozenset()
    pods: frozenset[Key] = frozenset()
    """Pods and lists of pods."""
    synced: bool = False
    """True when ``synced`` itself changed."""

    def __bool__(self) -> bool:
        return bool(self.namespaces or self.services or self.pods or self.synced)


def key_of(item: ClusterObject) -> Key:
    """The key under which a Change names ``item``."""
    if isinstance(item, PodList):
        return "", item.namespace
    return ("", item.name) if isinstance(item, Namespace) else item.key


def fold(
    before: Snapshot, changes: Iterable[Change], *, synced: bool | None = None, serial: int | None = None
) -> tuple[Snapshot, Touched]:
    """The Snapshot after ``changes``, and what they touched; changes that change nothing touch nothing."""
    changed = list(changes)
    namespaces, touched_namespaces = _merge(
        before.namespaces, {c.key[1]: c.object for c in changed if c.kind is Kind.NAMESPACE}, Namespace
    )
    services, touched_services = _merge(
        before.services, {c.key: c.object for c in changed if c.kind is Kind.SERVICE}, Service
    )
    slices, touched_slices = _merge(
        before.slices, {c.key: c.object for c in changed if c.kind is Kind.SLICE}, EndpointSlice
    )
    by_service, owners = _regroup(before, slices, touched_slices)
    pods, touched_pods = _merge(before.pods, {c.key: c.object for c in changed if c.kind is Kind.POD}, Pod)
    pod_lists, touched_lists = _merge(
        before.pod_lists, {c.key: c.object for c in changed if c.kind is Kind.POD_LIST}, PodList
    )
    now_synced = before.synced if synced is None else synced
    touched = Touched(
        touched_namespaces, touched_services | owners, touched_pods | touched_lists, now_synced != before.synced
    )
    if not touched:
        return before, touched
    moment = before.serial if serial is None else serial
    labelled = {key for key in touched_services if key in services and services[key].is_cluster_dns}
    dns_services = before.dns_services - touched_services | labelled
    after = Snapshot(namespaces, services, slices, by_service, pods, pod_lists, now_synced, moment, dns_services)
    return after, touched


def differing(snapshot: Snapshot, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those of ``changes`` that change anything: a list that is read anew says mostly what is known."""
    tables: Mapping[Kind, Mapping[Key, ClusterObject]] = {
        Kind.SERVICE: snapshot.services,
        Kind.SLICE: snapshot.slices,
        Kind.POD: snapshot.pods,
        Kind.POD_LIST: snapshot.pod_lists,
    }

    def known(change: Change) -> ClusterObject | None:
        if change.kind is Kind.NAMESPACE:
            return snapshot.namespaces.get(change.key[1])
        return tables[change.kind].get(change.key)

    return tuple(change for change in changes if known(change) != change.object)


def everything(snapshot: Snapshot) -> Iterator[Change]:
    """The changes that make ``snapshot`` out of an empty one."""
    for namespace in snapshot.namespaces.values():
        yield Change(Kind.NAMESPACE, key_of(namespace), namespace)
    for service in snapshot.services.values():
        yield Change(Kind.SERVICE, service.key, service)
    for item in snapshot.slices.values():
        yield Change(Kind.SLICE, item.key, item)
    for pod in snapshot.pods.values():
        yield Change(Kind.POD, pod.key, pod)
    for listed in snapshot.pod_lists.values():
        yield Change(Kind.POD_LIST, key_of(listed), listed)


def _merge(
    table: Mapping[K, V], news: Mapping[K, ClusterObject | None], kind: type[V]
) -> tuple[Mapping[K, V], frozenset[K]]:
    """``table`` with ``news`` in it, and the keys that differ; ``table`` itself when none does."""
    touched = {key: item if isinstance(item, kind) else None for key, item in news.items() if table.get(key) != item}
    return (as_table(table).changed(touched) if touched else table), frozenset(touched)


def _regroup(
    before: Snapshot, slices: Mapping[Key, EndpointSlice], touched: frozenset[Key]
) -> tuple[Mapping[Key, tuple[EndpointSlice, ...]], frozenset[Key]]:
    """``by_service`` after ``touched`` slices changed, and the services they belong or belonged to."""
    if not touched:
        return before.by_service, frozenset()
    groups: dict[Key, dict[str, EndpointSlice]] = {}

    def group(owner: Key) -> dict[str, EndpointSlice]:
        if owner not in groups:
            groups[owner] = {item.name: item for item in before.by_service.get(owner, ())}
        return groups[owner]

    for key in touched:
        if (old := before.slices.get(key)) is not None:
            group(old.service_key).pop(old.name, None)
    for key in touched:
        if (new := slices.get(key)) is not None:
            group(new.service_key)[new.name] = new
    news = {owner: tuple(items[name] for name in sorted(items)) or None for owner, items in groups.items()}
    return as_table(before.by_service).changed(news), frozenset(groups)
