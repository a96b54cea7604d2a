"""List and watch, for ever: what the API server has becomes Changes, and what it lost becomes deletions.

Each Reflector follows one kind in one namespace (or in all), and hands its Changes to a Sink in the order in which
they came. Resume by resourceVersion; 410 leads to a new list and the difference to what was known.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from resolverd.errors import one_line

from . import objects
from .client import ApiClient, ApiError, Json, UnreachableError
from .objects import ClusterObject, MalformedObjectError
from .snapshot import Change, Key, Kind, key_of

log = logging.getLogger(__name__)

PAGE = 500
"""Objects a page, as kubectl asks for."""
WATCH_SECONDS = (290, 580)
"""How long one watch lasts, drawn at random so that the watches of many clients do not end together."""
BACKOFF = (0.2, 10.0)
"""Seconds of pause after the first failure, doubled with each further one, and the longest pause; jittered."""

STEADY = 5.0
"""Seconds a watch must have lived for its end to be ordinary, and the next to start without a pause."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind: where it lives in the API and how it is read."""

    kind: Kind
    group_version: str
    parse: Callable[[objects.Raw], ClusterObject]
    fields: str = ""
    """A field selector: what ceases to be selected is deleted, for us."""

    def path(self, namespace: str) -> str:
        """The list's path; ``namespace`` empty: all of them."""
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.group_version}{inside}/{self.kind}"

    def parameters(self, more: Mapping[str, str]) -> dict[str, str]:
        """Those of a list or a watch."""
        return {**more, **({"fieldSelector": self.fields} if self.fields else {})}


WATCHED = (
    Watched(Kind.NAMESPACE, "/api/v1", objects.parse_namespace),
    Watched(Kind.SERVICE, "/api/v1", objects.parse_service),
    Watched(Kind.SLICE, "/apis/discovery.k8s.io/v1", objects.parse_endpoint_slice),
)


PODS = Watched(
    Kind.POD, "/api/v1", objects.parse_pod, "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
)
"""Only watched for verified pod records. A finished pod's status keeps an address that another may have by now."""


class Sink(Protocol):
    """Where Changes go."""

    def put(self, change: Change) -> None:
        """One more Change."""

    def listed(self, reflector: Reflector) -> None:
        """A list of ``reflector`` is complete: all of it has been put."""

    def alive(self, reflector: Reflector) -> None:
        """The watch of ``reflector`` has begun."""

    def failed(self, reflector: Reflector, error: ApiError | UnreachableError) -> None:
        """The API server failed ``reflector``, which goes on trying unless this raises."""


@dataclass(slots=True, eq=False)
class Reflector:
    """Follows one kind, in ``namespace`` or (empty) in all."""

    watched: Watched
    sink: Sink
    namespace: str = ""
    known: set[Key] = field(default_factory=set)
    version: str = ""
    """Where to resume; empty: list first."""
    listed: bool = False
    malformed: int = 0
    restarts: int = 0

    async def run(self, client: ApiClient) -> None:
        """Follow until cancelled. What was known stays known for the next run, with another client say."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                if not self.version:
                    await self._list(client)
                await self._watch(client)
            except (ApiError, UnreachableError) as error:
                self.restarts += 1
                if isinstance(error, ApiError) and error.status == 410:
                    log.info("%s: the version is gone, listing anew", self.watched.kind)
                    self.version = ""
                else:
                    self.sink.failed(self, error)
            failures = 0 if time.monotonic() - began > STEADY else failures + 1
            if failures:
                await asyncio.sleep(_pause(failures))

    async def _list(self, client: ApiClient) -> None:
        path, found, token = self.watched.path(self.namespace), set[Key](), ""
        while True:
            asked = {"limit": str(PAGE), **({"continue": token} if token else {})}
            page = await client.get(path, self.watched.parameters(asked))
            metadata = _mapping(page.get("metadata"))
            items = page.get("items")
            for raw in items if isinstance(items, list) else ():
                if (item := self._parse(raw)) is not None:
                    found.add(key_of(item))
                    self.sink.put(Change(self.watched.kind, key_of(item), item))
            token = str(metadata.get("continue") or "")
            if not token:
                break
        for key in self.known - found:
            self.sink.put(Change(self.watched.kind, key, None))
        self.known = found
        self.version = str(metadata.get("resourceVersion") or "")
        self.listed = True
        self.sink.listed(self)

    async def _watch(self, client: ApiClient) -> None:
        parameters = {
            "resourceVersion": self.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311  # spreading load, no secret
        }
        path = self.watched.path(self.namespace)
        async for event in client.watch(path, self.watched.parameters(parameters), lambda: self.sink.alive(self)):
            kind, raw = event.get("type"), event.get("object")
            if kind == "ERROR":
                raise _watch_error(_mapping(raw))
            self._take(str(kind), raw)
            version = _mapping(_mapping(raw).get("metadata")).get("resourceVersion")
            if isinstance(version, str) and version:
                self.version = version

    def _take(self, kind: str, raw: Any) -> None:
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return
        item = self._parse(raw)
        if item is None:
            return
        key = key_of(item)
        if kind == "DELETED":
            self.known.discard(key)
        else:
            self.known.add(key)
        self.sink.put(Change(self.watched.kind, key, None if kind == "DELETED" else item))

    def _parse(self, raw: Any) -> ClusterObject | None:
        try:
            item = self.watched.parse(_mapping(raw))
        except MalformedObjectError as error:
            self.malformed += 1
            name = one_line(str(_mapping(_mapping(raw).get("metadata")).get("name", "?")))
            log.warning("%s %s skipped: %s", self.watched.kind, name, one_line(str(error)))
            return None
        return item


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _watch_error(status: Json) -> ApiError:
    code = status.get("code")
    return ApiError(
        "watch", str(status.get("message") or "an error event"), status=code if isinstance(code, int) else 500
    )


def _pause(failures: int) -> float:
    shortest, longest = BACKOFF
    ceiling: float = min(longest, shortest * 2 ** min(failures - 1, 16))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311  # jitter, no secret
