"""Faults on demand: a server that fails, hangs or drops its streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from .status import StatusError


class Faults:
    """What is wrong with the API server just now; nothing, to begin with."""

    def __init__(self) -> None:
        self.failing = 0
        """HTTP status that every request gets instead of an answer; 0: none."""
        self._running = asyncio.Event()
        self._running.set()
        self._streams: set[asyncio.Transport] = set()

    def freeze(self) -> None:
        """Accept connections, but answer nothing and fall silent on every stream, as a dead link does."""
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    async def pass_gate(self) -> None:
        """Wait while the server is frozen."""
        await self._running.wait()

    async def admit(self) -> None:
        """Let a request in. StatusError with the status that was asked for."""
        await self.pass_gate()
        if self.failing:
            raise StatusError(self.failing, "InternalError", "an error on the server was asked for")

    @contextmanager
    def stream(self, request: web.Request) -> Iterator[None]:
        """``request`` is a stream while this lasts."""
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError("the client has gone")
        self._streams.add(transport)
        try:
            yield
        finally:
            self._streams.discard(transport)

    @property
    def streams(self) -> int:
        """Watches and port-forwards that are open."""
        return len(self._streams)

    def drop_streams(self) -> None:
        """Break every watch and port-forward, in the middle of whatever they do."""
        for transport in tuple(self._streams):
            transport.abort()
