"""Watches: the events after a version, one JSON object a line, until the client or the time is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .faults import Faults
from .options import ListOptions
from .resources import ENDPOINT_SLICES, SERVICES
from .status import StatusError
from .store import Event, Store

Raw = dict[str, Any]
Shape = Callable[[Raw], Raw]
"""How objects are shown: as they are, or as rows of a table."""

DEFAULT_TIMEOUT = 2700.0
"""Seconds; the real server takes 1800 to 3600 when the client names none."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Habits:
    """How a server goes about watches."""

    streaming_lists: bool
    """Whether ``sendInitialEvents`` is served; a server with an old etcd refuses it."""
    bookmark_interval: float
    """Seconds between bookmarks; the real server has 60."""


class Watch:
    """One watch request."""

    def __init__(self, store: Store, options: ListOptions, faults: Faults, habits: Habits, shape: Shape) -> None:
        self._store = store
        self._options = options
        self._faults = faults
        self._habits = habits
        self._shape = shape
        self._request: web.Request

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream the events. Failures after the 200 arrive as ERROR events, as the real server sends them."""
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._request = request
        with self._faults.stream(request):
            try:
                if self._options.initial_events and not self._habits.streaming_lists:
                    raise _no_streaming_lists()
                await self._stream(response)
            except StatusError as error:
                await self._send(response, "ERROR", error.body())
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        end = start + (self._options.timeout or DEFAULT_TIMEOUT)
        cursor = await self._begin(response)
        bookmarks = self._bookmark_times(start, end)
        bookmark = next(bookmarks)
        while (now := loop.time()) < end:
            moved, seen = self._store.moved, self._store.version
            lines = [line for event in self._store.since(cursor) if (line := self._line(event))]
            if lines:
                await self._faults.write(self._request, response, lines)
            cursor = max(cursor, seen)
            if now >= bookmark:
                await self._send(response, "BOOKMARK", self._bookmark(cursor))
                bookmark = next(bookmarks)
            try:
                async with asyncio.timeout(min(bookmark, end) - loop.time()):
                    await moved.wait()
            except TimeoutError:
                continue

    async def _begin(self, response: web.StreamResponse) -> int:
        """Send what comes first; returns the version after which events follow."""
        options = self._options
        wants_current = options.version in (None, 0) or options.initial_events
        if not wants_current or options.initial_events is False:
            return self._store.version if options.version in (None, 0) else int(options.version or 0)
        cursor = self._store.version
        for raw in self._store.objects(options.target.resource, options.target.namespace):
            if options.selects(raw):
                await self._send(response, "ADDED", raw)
        if options.initial_events and options.bookmarks:
            end = self._bookmark(cursor)
            end["metadata"]["annotations"] = {INITIAL_EVENTS_END: "true"}
            await self._send(response, "BOOKMARK", end)
        return cursor

    def _line(self, event: Event) -> bytes | None:
        """An object that begins or ceases to be selected is added or deleted, for this watch."""
        if event.resource is not self._options.target.resource:
            return None
        before = event.before is not None and self._options.selects(event.before)
        after = event.type != "DELETED" and self._options.selects(event.object)
        if after:
            return _encoded("MODIFIED" if before else "ADDED", self._shape(event.object))
        return _encoded("DELETED", self._shape(event.object)) if before else None

    def _bookmark_times(self, start: float, end: float) -> Iterator[float]:
        """Every minute or as is the habit, and two and one seconds before the end, as the real server sends them."""
        if self._options.bookmarks:
            moment = start + self._habits.bookmark_interval
            while moment < end - 2:
                yield moment
                moment += self._habits.bookmark_interval
            yield from (last for last in (end - 2, end - 1) if last > start)
        while True:
            yield end

    def _bookmark(self, version: int) -> Raw:
        """An empty object of the watched kind that carries nothing but a version."""
        resource = self._options.target.resource
        empty: Raw = {"spec": {}, "status": {}}
        if resource is SERVICES:
            empty = {"spec": {}, "status": {"loadBalancer": {}}}
        elif resource is ENDPOINT_SLICES:
            empty = {"addressType": "", "endpoints": None, "ports": None}
        metadata: Raw = {"resourceVersion": str(version)}
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata, **empty}

    async def _send(self, response: web.StreamResponse, kind: str, raw: Raw) -> None:
        shown = raw if kind in ("ERROR", "BOOKMARK") else self._shape(raw)
        if kind == "ERROR":
            await self._faults.pass_gate()
            await response.write(_encoded(kind, shown))
        else:
            await self._faults.write(self._request, response, [_encoded(kind, shown)])


def _encoded(kind: str, shown: Raw) -> bytes:
    return json.dumps({"type": kind, "object": shown}, separators=(",", ":")).encode() + b"\n"


def _no_streaming_lists() -> StatusError:
    why = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled"
    return StatusError(500, "InternalError", why)
