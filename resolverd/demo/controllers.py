"""The controllers: pods get addresses and run, services get EndpointSlices, deleted namespaces come to an end.

Each commit marks what it may concern; the controllers then run until nothing is marked, in a fixed order and at a
moment of their own, so that watches see the same steps as in a real cluster, every time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .addresses import AddressPool
from .endpoints import selects, slices
from .pod_servers import PodServers
from .pods import listening, running_status
from .registry import Registry, now
from .resources import ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SERVICES, STORED
from .store import Event

Raw = dict[str, Any]
Key = tuple[str, str]


class Controllers:
    """kube-controller-manager, scheduler and kubelet in one."""

    def __init__(self, registry: Registry, servers: PodServers, pod_pools: list[AddressPool], linger: float) -> None:
        """``linger``: seconds that a deleted namespace stays in phase Terminating, unless :meth:`settle` is called."""
        self._registry = registry
        self._store = registry.store
        self._servers = servers
        self._pools = pod_pools
        self._linger = linger
        self._pods: set[Key] = set()
        self._services: set[Key] = set()
        self._namespaces: set[str] = set()
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._held = False
        self._starts = 9  # pods begin at .10: the first addresses look like gateways
        self._store.on_commit = self._mark

    def settle(self) -> None:
        """Do all the work there is, now, the ends of namespaces included."""
        self._cancel()
        for name in _taken(self._namespaces):
            self._finish_namespace(name)
        self._reconcile()

    def _reconcile(self) -> None:
        """Until nothing is marked but namespaces."""
        self._cancel()
        self._held = True
        try:
            while self._pods or self._services:
                for namespace, name in _taken(self._pods):
                    self._reconcile_pod(namespace, name)
                self._reconcile_services(_taken(self._services))
        finally:
            self._held = False
        self._schedule()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do nothing within, however much is written; settle at the end."""
        self._held = True
        try:
            yield
        finally:
            self.settle()

    def close(self) -> None:
        self._cancel()
        self._held = True

    def _mark(self, event: Event) -> None:
        metadata = event.object["metadata"]
        key = metadata.get("namespace", ""), metadata["name"]
        if event.resource is PODS:
            if event.type == "DELETED":
                self._stop_pod(event.object)
            else:
                self._pods.add(key)
            self._mark_services_of(event)
        elif event.resource is SERVICES:
            self._services.add(key)
        elif event.resource is ENDPOINT_SLICES:
            owners = [owner["name"] for owner in metadata.get("ownerReferences", []) if owner["kind"] == "Service"]
            self._services.update((metadata["namespace"], owner) for owner in owners)
        elif event.resource is NAMESPACES and event.before and "deletionTimestamp" not in event.before["metadata"]:
            self._namespaces.update({metadata["name"]} if "deletionTimestamp" in metadata else ())
        self._schedule()

    def _schedule(self) -> None:
        if self._held:
            return
        if self._namespaces and self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._linger, self.settle)
        if (self._pods or self._services) and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._reconcile)

    def _mark_services_of(self, event: Event) -> None:
        namespace = event.object["metadata"]["namespace"]
        for service in self._store.objects(SERVICES, namespace):
            if any(selects(service, pod) for pod in (event.object, event.before) if pod):
                self._services.add((namespace, service["metadata"]["name"]))

    def _reconcile_pod(self, namespace: str, name: str) -> None:
        pod, nodes = self._store.get(PODS, namespace, name), self._store.objects(NODES)
        if pod is None or not nodes:
            return
        if not listening(pod):
            self._servers.stop(pod["metadata"]["uid"])
        addresses = [entry["ip"] for entry in pod["status"].get("podIPs", [])]
        if not addresses:
            addresses = [pool.pick(self._starts) for pool in self._pools]
            self._starts += 1
        chosen = pod["spec"].get("nodeName") or nodes[0]["metadata"]["name"]
        node = self._store.get(NODES, "", chosen) or nodes[0]
        status = running_status(pod, addresses, node, now())
        self._registry.set_status(PODS, pod, spec={**pod["spec"], "nodeName": chosen}, status=status)

    def _stop_pod(self, pod: Raw) -> None:
        self._servers.stop(pod["metadata"]["uid"])
        for pool, entry in zip(self._pools, pod["status"].get("podIPs", []), strict=False):
            pool.release(entry["ip"])

    def _reconcile_services(self, keys: list[Key]) -> None:
        by_namespace: dict[str, list[str]] = defaultdict(list)
        for namespace, name in keys:
            by_namespace[namespace].append(name)
        for namespace, names in by_namespace.items():
            pods = self._store.objects(PODS, namespace)
            had: dict[str, dict[str, Raw]] = defaultdict(dict)
            for raw in self._store.objects(ENDPOINT_SLICES, namespace):
                for owner in raw["metadata"].get("ownerReferences", []):
                    had[owner["name"]][raw["metadata"]["name"]] = raw
            for name in names:
                self._reconcile_service(namespace, name, pods, had[name])

    def _reconcile_service(self, namespace: str, name: str, pods: list[Raw], had: dict[str, Raw]) -> None:
        service = self._store.get(SERVICES, namespace, name)
        if "deletionTimestamp" in (self._store.get(NAMESPACES, "", namespace) or {"metadata": {}})["metadata"]:
            return
        wanted = slices(service, [pod for pod in pods if selects(service, pod)]) if service else []
        for raw in wanted:
            old = had.pop(raw["metadata"]["name"], None)
            if old is None:
                self._registry.create(ENDPOINT_SLICES, namespace, raw)
            elif old["addressType"] == raw["addressType"]:
                self._registry.replace(ENDPOINT_SLICES, namespace, raw["metadata"]["name"], raw)
            else:
                self._registry.delete(ENDPOINT_SLICES, namespace, raw["metadata"]["name"])
                self._registry.create(ENDPOINT_SLICES, namespace, raw)
        for stale in had:
            self._registry.delete(ENDPOINT_SLICES, namespace, stale)

    def _finish_namespace(self, name: str) -> None:
        namespace = self._store.get(NAMESPACES, "", name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return
        for resource in STORED:
            if resource.namespaced:
                for raw in self._store.objects(resource, name):
                    self._registry.delete(resource, name, raw["metadata"]["name"])
        status = {"phase": "Terminating", "conditions": _gone(now())}
        self._registry.set_status(NAMESPACES, namespace, status=status)
        self._store.remove(NAMESPACES, "", name)

    def _cancel(self) -> None:
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None


def _taken(marked: set[Any]) -> list[Any]:
    """What is marked, in order; nothing is marked any more."""
    found = sorted(marked)
    marked.clear()
    return found


_GONE = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
)


def _gone(moment: str) -> list[Raw]:
    """The conditions of a namespace that has been emptied."""
    return [
        {"type": kind, "status": "False", "lastTransitionTime": moment, "reason": reason, "message": message}
        for kind, reason, message in _GONE
    ]
