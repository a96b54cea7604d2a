"""Objects and their history: one counter of versions, and the events since any of them that is still kept.

A stored object is never changed in place; whoever holds one may keep it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .resources import STORED, Resource
from .status import expired

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One committed change."""

    version: int
    type: str
    """ADDED, MODIFIED or DELETED."""
    resource: Resource
    object: Raw
    before: Raw | None
    """The object as it was; None for ADDED."""


class Store:
    """What etcd and the watch cache are to a real API server, in memory."""

    def __init__(self, history: int) -> None:
        """``history``: events that are kept for watches; older versions are gone."""
        self._objects: dict[Resource, dict[str, dict[str, Raw]]] = {resource: {} for resource in STORED}
        self._history: deque[Event] = deque()
        self._kept = history
        self._moved = asyncio.Event()
        self._snapshots: dict[tuple[Resource, int], list[Raw]] = {}
        self.version = 1
        self.oldest = 1
        """Watches may start from this version or a later one."""
        self.on_commit: Callable[[Event], None] = lambda event: None

    def get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        return self._objects[resource].get(namespace, {}).get(name)

    def objects(self, resource: Resource, namespace: str = "") -> list[Raw]:
        """The objects in the order of their keys; of every namespace when ``namespace`` is empty."""
        groups = self._objects[resource]
        wanted = [namespace] if namespace else sorted(groups)
        return [group[name] for group in (groups.get(key, {}) for key in wanted) for name in sorted(group)]

    def put(self, resource: Resource, raw: Raw) -> Raw:
        """Commit a new or changed object; returns it with its new version."""
        metadata = raw["metadata"]
        group = self._objects[resource].setdefault(metadata.get("namespace", ""), {})
        before = group.get(metadata["name"])
        after = self._versioned(raw)
        group[metadata["name"]] = after
        self._commit("MODIFIED" if before else "ADDED", resource, after, before)
        return after

    def remove(self, resource: Resource, namespace: str, name: str) -> Raw:
        """Commit a deletion; returns the object at the version of its end. KeyError when there is none."""
        before = self._objects[resource].get(namespace, {}).pop(name)
        after = self._versioned(before)
        self._commit("DELETED", resource, after, before)
        return after

    def since(self, version: int) -> list[Event]:
        """The events after ``version``, oldest first. StatusError 410 when some of them are gone."""
        if version < self.oldest:
            raise expired(f"too old resource version: {version} ({self.oldest})")
        found: list[Event] = []
        for event in reversed(self._history):
            if event.version <= version:
                break
            found.append(event)
        return found[::-1]

    @property
    def moved(self) -> asyncio.Event:
        """Set by the next commit; take it before you look, wait for it afterwards."""
        return self._moved

    def snapshot(self, resource: Resource, version: int) -> list[Raw]:
        """The objects as they were when a chunked list began. StatusError 410 when that is forgotten.

        Asking for the current version remembers it; the most recent 64 are kept.
        """
        if version == self.version:
            self._snapshots.setdefault((resource, version), self.objects(resource))
            if len(self._snapshots) > 64:
                del self._snapshots[next(iter(self._snapshots))]
        if (resource, version) not in self._snapshots:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
            )
        return self._snapshots[resource, version]

    def forget(self) -> None:
        """Drop all history, as a compaction does: watches and chunked lists from before now are expired."""
        self.version += 1
        self.oldest = self.version
        self._history.clear()
        self._snapshots.clear()

    def _versioned(self, raw: Raw) -> Raw:
        return {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self.version + 1)}}

    def _commit(self, kind: str, resource: Resource, after: Raw, before: Raw | None) -> None:
        self.version += 1
        event = Event(self.version, kind, resource, after, before)
        self._history.append(event)
        while len(self._history) > self._kept:
            self.oldest = self._history.popleft().version
        self._moved.set()
        self._moved = asyncio.Event()
        self.on_commit(event)
