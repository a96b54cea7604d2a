"""List and watch, for ever: what the API server has becomes Changes, and what it lost becomes deletions.

Each Reflector follows one kind in one namespace (or in all), and hands its Changes to a Sink in the order in which
they came. Resume by resourceVersion; 410 leads to a new list and the difference to what was known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from resolverd.errors import one_line

from . import objects
from .backoff import Backoff
from .client import ApiClient, ApiError, UnreachableError
from .objects import ClusterObject
from .pages import Item, Page, mapping, number, read_item, read_page
from .served import explained
from .snapshot import Change, Key, Kind

log = logging.getLogger(__name__)

PAGE = 500
"""Objects a page, as kubectl asks for."""
WATCH_SECONDS = (290, 580)
"""How long one watch lasts, drawn at random so that the watches of many clients do not end together."""
MOST_GONE = 10_000
"""Deletions remembered, so that an older event does not bring the object back."""
SILENCES = 2
"""Watches in a row without a word, not even a bookmark, after which the version is not trusted."""
ON_TIME = 5.0
"""Seconds before its end was due at which a watch may end and nothing has happened to the server."""
DOUBT = 10.0
"""Seconds for which a 403 is not believed of what was given before: an API server that starts serves before it has
read its roles, and refuses everybody meanwhile."""


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
    labels: str = ""
    """A label selector; empty: everything."""
    known: dict[Key, int | None] = field(default_factory=dict)
    """What there is, and at which version."""
    version: str = ""
    """Where to resume; empty: list first."""
    listed: bool = False
    malformed: set[Key] = field(default_factory=set)
    """What is there, but cannot be what it says it is."""
    restarts: int = 0
    _refused: float = 0.0
    """Since when it is refused, on the monotonic clock; 0: it is not."""
    _gone: dict[Key, int | None] = field(default_factory=dict)
    """What was deleted since the list or the last bookmark, and at which version."""
    _floor: int = 0
    """The version of the list or the last bookmark: whatever is older was known by then."""
    _may_resume: bool = False
    """Whether the server is known to have come as far as the version: not after a watch that broke off."""
    _whole: bool = False
    """Whether to list in one piece: the pages did not come before they expired."""
    _silences: int = 0
    _backoff: Backoff = field(default_factory=Backoff)
    _poked: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, client: ApiClient) -> None:
        """Follow until cancelled. What was known stays known for the next run, with another client say."""
        while True:
            began = time.monotonic()
            error: ApiError | UnreachableError | None = None
            try:
                if not self.version:
                    await self._list(client)
                elif not self._may_resume:
                    await self._look(client)
                await self._watch(client)
            except (ApiError, UnreachableError) as caught:
                error = await explained(client, caught, self.watched.group_version)
                self.restarts += 1
                self._look_into(error)
            pause = self._backoff.pause(error, time.monotonic() - began, believed=not self.is_doubtful)
            await self._rest(pause, asked_for=isinstance(error, ApiError) and bool(error.retry_after))

    def poke(self) -> None:
        """Try again now: the server was reached by somebody else, or the credentials are new."""
        self._poked.set()

    @property
    def is_doubtful(self) -> bool:
        """Whether a refusal may be an API server's that has just started."""
        was_given = self.listed or bool(self.known)
        return was_given and bool(self._refused) and time.monotonic() - self._refused < DOUBT

    async def _rest(self, pause: float, *, asked_for: bool) -> None:
        self._poked.clear()
        if asked_for:
            await asyncio.sleep(pause)
            return
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._poked.wait()

    def _look_into(self, error: ApiError | UnreachableError) -> None:
        """Decide whether the version can be resumed from, and say what went wrong."""
        if isinstance(error, ApiError) and error.status == 410:
            log.info("%s: the version is gone, listing anew", self.watched.kind)
            self.version = ""
            return
        if isinstance(error, ApiError) and error.status == 403:
            self._refused = self._refused or time.monotonic()
        self.sink.failed(self, error)
        if isinstance(error, ApiError):
            # A version the server cannot read or has not reached (after a restore, say) will not get better.
            # Of what is refused, broken or too busy a list would be the same, and cost more.
            if error.status in (400, 504) or "resourceVersion" in error.why:
                self.version = ""
        elif error.is_silence:
            self._silences += 1
            if self._silences >= SILENCES:
                self.version, self._silences = "", 0

    def _heard(self) -> None:
        """The server gave us something."""
        self._silences = 0
        self._opened()

    async def _list(self, client: ApiClient) -> None:
        """Take in the whole list, and delete what it does not have. Raises ApiError (410: a page expired)."""
        found: dict[Key, int | None] = {}
        bad: set[Key] = set()
        token, whole, self._whole = "", self._whole, False
        while True:
            try:
                size = {} if whole else {"limit": str(PAGE)}
                page = await self._page(client, size | ({"continue": token} if token else {}))
            except ApiError as error:
                self._whole = error.status == 410
                raise
            for item in page.items:
                # Known from now on: should the list break off, and the next one lack it, it has to be deleted.
                found[item.key] = self.known[item.key] = item.version
                if item.object is None:
                    self._complain(item, bad)
                    self.sink.put(Change(self.watched.kind, item.key, None))
                else:
                    self.sink.put(Change(self.watched.kind, item.key, item.object))
            self._heard()
            token = page.token
            if not token:
                break
        for key in self.known.keys() - found.keys():
            self.sink.put(Change(self.watched.kind, key, None))
        self.known, self.malformed, self._gone = found, bad, {}
        self.version, self._floor = page.version, number(page.version) or 0
        self.listed = self._may_resume = True
        self.sink.listed(self)

    async def _look(self, client: ApiClient) -> None:
        """See whether the server has come as far as we have; ApiError 410 when it has not.

        One that was put back from a backup takes a watch from its future, and is silent until it gets there.
        """
        page = await self._page(client, {"limit": "1"})
        there, here = number(page.version), number(self.version)
        if there is not None and here is not None and there < here:
            raise _went_back(here, there)
        self._may_resume = True

    async def _page(self, client: ApiClient, parameters: Mapping[str, str]) -> Page:
        data = await client.fetch(self.watched.path(self.namespace), self._parameters(parameters))
        try:
            return await asyncio.to_thread(read_page, data, self.watched.parse)
        except (ValueError, RecursionError) as error:
            raise client.unusable(error) from error

    async def _watch(self, client: ApiClient) -> None:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311  # spreading load, no secret
        parameters = {
            "resourceVersion": self.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        path, due = self.watched.path(self.namespace), time.monotonic() + seconds - ON_TIME
        async for event in client.watch(path, self._parameters(parameters), self._begun):
            kind, raw = event.get("type"), event.get("object")
            if kind == "ERROR":
                raise _watch_error(mapping(raw))
            self._silences = 0
            self._backoff.succeeded()
            if kind == "BOOKMARK":
                self._mark(raw)
            elif kind in ("ADDED", "MODIFIED", "DELETED") and (item := read_item(raw, self.watched.parse)):
                self._take(item, is_gone=kind == "DELETED")
        self._may_resume = time.monotonic() >= due

    def _begun(self) -> None:
        self._may_resume = False  # until it has ended when it was due
        self._opened()

    def _opened(self) -> None:
        self._refused = 0.0
        self.sink.alive(self)

    def _parameters(self, more: Mapping[str, str]) -> dict[str, str]:
        selectors = {"labelSelector": self.labels, "fieldSelector": self.watched.fields}
        return {**more, **{key: value for key, value in selectors.items() if value}}

    def _mark(self, raw: Any) -> None:
        """A bookmark: all up to its version has been said. ApiError 410 when it lies before what we know."""
        version = mapping(mapping(raw).get("metadata")).get("resourceVersion")
        reached = number(version)
        if reached is not None and reached < self._floor:
            raise _went_back(self._floor, reached)
        if isinstance(version, str) and version:
            self._resume_from(version)
            self._floor, self._gone = reached or 0, {}
        self.sink.alive(self)

    def _take(self, item: Item, *, is_gone: bool) -> None:
        """An event, unless it says less than is known: one that came twice, or too late."""
        last = self.known.get(item.key, self._gone.get(item.key, self._floor))
        if item.version is not None and last is not None and item.version <= last:
            return
        if item.version is not None:
            self._resume_from(str(item.version))
        self.malformed.discard(item.key)
        if is_gone:
            self.known.pop(item.key, None)
            self._gone[item.key] = item.version
            if len(self._gone) > MOST_GONE:
                del self._gone[next(iter(self._gone))]
        else:
            self._gone.pop(item.key, None)
            self.known[item.key] = item.version
            if item.object is None:
                self._complain(item, self.malformed)
        self.sink.put(Change(self.watched.kind, item.key, None if is_gone else item.object))

    def _resume_from(self, version: str) -> None:
        """Go on from ``version`` after the next interruption, unless a later one was seen."""
        before, after = number(self.version), number(version)
        if before is None or after is None or after > before:
            self.version = version

    def _complain(self, item: Item, bad: set[Key]) -> None:
        bad.add(item.key)
        if item.key not in self.malformed or bad is self.malformed:
            named = one_line("/".join(filter(None, item.key)))
            log.warning("%s %s skipped: %s", self.watched.kind, named, one_line(item.why))


def _went_back(before: int, after: int) -> ApiError:
    return ApiError("watch", f"the server went back from version {before} to {after}", status=410)


def _watch_error(status: dict[str, Any]) -> ApiError:
    code = status.get("code")
    return ApiError(
        "watch", str(status.get("message") or "an error event"), status=code if isinstance(code, int) else 500
    )
