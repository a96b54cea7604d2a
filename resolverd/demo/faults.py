"""Faults on demand: a server that fails, hangs, stutters or drops its streams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from .status import StatusError, expired


@dataclass(slots=True)
class Mischief:
    """What befalls whatever is written; nothing, to begin with. The first three are chances from 0 to 1."""

    truncated: float = 0.0
    """Of an answer or some events to break off in the middle: of the JSON, and of the connection."""
    duplicated: float = 0.0
    """Of an event to come twice."""
    reordered: float = 0.0
    """Of an event to come after the next one."""
    crawling: float = 0.0
    """Seconds between any two pieces of what is sent; 0: it is sent at once."""


class Faults:
    """What is wrong with the API server just now; nothing, to begin with."""

    def __init__(self) -> None:
        self.failing = 0
        """HTTP status that every request gets instead of an answer; 0: none."""
        self.retry_after = 0
        """Seconds that a refusal by ``failing`` asks for; 0: it asks for none."""
        self.expired_pages = 0
        """How many of the next requests for a further page of a list find it expired."""
        self.mischief = Mischief()
        self.chance = random.Random(0)  # noqa: S311  # repeatable, no secret
        self._running = asyncio.Event()
        self._running.set()
        self._streams: dict[asyncio.Transport, _State] = {}

    def freeze(self) -> None:
        """Accept connections, but answer nothing and fall silent on every stream, as a dead link does."""
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def forget_streams(self) -> None:
        """Fall silent for ever on the streams that are open now, as if their server had forgotten them."""
        for state in self._streams.values():
            state.is_forgotten = True

    def expire_streams(self) -> None:
        """Have every open watch told, with its next event, that its version is gone."""
        for state in self._streams.values():
            state.is_expired = True

    async def pass_gate(self) -> None:
        """Wait while the server is frozen."""
        await self._running.wait()

    async def admit(self, request: web.Request) -> None:
        """Let a request in. StatusError with the status that was asked for, or 410 for an expired page."""
        await self.pass_gate()
        if self.failing == 429:
            details = {"retryAfterSeconds": self.retry_after} if self.retry_after else {}
            raise StatusError(429, "TooManyRequests", "too many requests, please try again later", details)
        if self.failing:
            raise StatusError(self.failing, "InternalError", "an error on the server was asked for")
        if self.expired_pages and request.query.get("continue"):
            self.expired_pages -= 1
            raise expired("The provided continue parameter is too old to display a consistent list result.")

    @contextmanager
    def stream(self, request: web.Request) -> Iterator[None]:
        """``request`` is a stream while this lasts."""
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError("the client has gone")
        self._streams[transport] = _State()
        try:
            yield
        finally:
            self._streams.pop(transport, None)

    @property
    def streams(self) -> int:
        """Watches and port-forwards that are open."""
        return len(self._streams)

    def drop_streams(self) -> None:
        """Break every watch and port-forward, in the middle of whatever they do."""
        for transport in tuple(self._streams):
            transport.abort()

    async def write(self, request: web.Request, response: web.StreamResponse, lines: list[bytes]) -> None:
        """Send ``lines`` of a watch, with whatever befalls them. StatusError 410 when the watch has expired."""
        state = self._streams.get(request.transport) if isinstance(request.transport, asyncio.Transport) else None
        await self.pass_gate()
        if state and state.is_forgotten:
            await asyncio.Event().wait()
        if state and state.is_expired:
            raise expired("too old resource version")
        mischief, whole = self.mischief, b"".join(self._shuffled(lines))
        if self.chance.random() < mischief.truncated:
            await response.write(whole[: self.chance.randrange(len(whole))])
            if isinstance(request.transport, asyncio.Transport):
                request.transport.abort()
            raise ConnectionResetError("broken off on purpose")
        await self.crawl(response, whole)

    def _shuffled(self, lines: list[bytes]) -> list[bytes]:
        """``lines`` with some twice and some swapped; all of them in one piece, so that none gets lost."""
        mischief, found = self.mischief, list(lines)
        for place in range(len(found) - 1):
            if self.chance.random() < mischief.reordered:
                found[place], found[place + 1] = found[place + 1], found[place]
        return [line for one in found for line in ([one, one] if self.chance.random() < mischief.duplicated else [one])]

    async def spoil(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """``answer``, with whatever befalls it."""
        body = answer.body
        if not isinstance(body, bytes) or answer.status != 200 or not body:
            return answer
        if self.chance.random() < self.mischief.truncated:
            answer.body = body[: self.chance.randrange(len(body))]
            return answer
        if not self.mischief.crawling:
            return answer
        slow = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await slow.prepare(request)
        await self.crawl(slow, body)
        return slow

    async def crawl(self, response: web.StreamResponse, data: bytes) -> None:
        """Send ``data``, in up to eight pieces while the line is slow."""
        size = len(data) if not self.mischief.crawling else max(1, len(data) // 8)
        for start in range(0, len(data), size or 1):
            await response.write(data[start : start + size])
            if self.mischief.crawling:
                await asyncio.sleep(self.mischief.crawling)


@dataclass(slots=True)
class _State:
    """What befell one stream."""

    is_forgotten: bool = False
    is_expired: bool = False
