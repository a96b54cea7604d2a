"""Connections to a DNS server that are kept until nobody asks any more (RFC 7766 6.2).

Through the tunnel a connection costs a websocket and several round trips to the API server; a question, one. Servers
may answer the questions of a connection one after the other (CoreDNS does), so several are used before one is shared.
"""

from __future__ import annotations

import asyncio
import secrets
import struct

from .foreign import answers
from .tidy import let_go

IDLE = 5.0
"""Seconds without a question after which the connection ends; CoreDNS ends it after 10."""
MAX_LINES = 4
_LENGTH = struct.Struct("!H")


class _Line(asyncio.Protocol):
    """One connection, and who waits for what."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[bytes]]] = {}
        self.questions = 0
        """Under way, or about to be."""
        self._heard = 0
        self._idle: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for the type checker: a stream's
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            let_go(self._transport)
        self._transport = None
        for _, reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(ConnectionResetError("the connection ended without an answer"))

    def data_received(self, data: bytes) -> None:
        self._heard += 1
        self._unread += data
        while len(self._unread) >= _LENGTH.size:
            end = _LENGTH.size + int(_LENGTH.unpack_from(self._unread)[0])
            if len(self._unread) < end:
                return
            self._take(bytes(self._unread[_LENGTH.size : end]))
            del self._unread[:end]

    def _take(self, message: bytes) -> None:
        query, reply = self._waiting.get(message[:2], (b"", None))
        if reply is None or reply.done():
            return  # nobody waits for it any more
        if answers(message, query):
            reply.set_result(message)
        else:
            reply.set_exception(ConnectionAbortedError("the answer is to another question"))
            self.close()

    async def ask(self, query: bytes) -> bytes:
        """The reply to ``query``, whose id is chosen anew. Waits without an end; raises OSError."""
        try:
            return await self._ask(query)
        finally:
            self.questions -= 1

    async def _ask(self, query: bytes) -> bytes:
        if self._transport is None:
            raise ConnectionResetError("the connection has ended")
        number = next(number for number in iter(lambda: secrets.token_bytes(2), b"") if number not in self._waiting)
        numbered, heard = number + query[2:], self._heard
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = numbered, reply
        if self._idle is not None:
            self._idle.cancel()
        self._transport.write(_LENGTH.pack(len(numbered)) + numbered)
        try:
            return await reply
        except asyncio.CancelledError:
            if heard == self._heard:
                self.close()  # silent all the time: it may be dead, and the next question shall not find out again
            raise
        finally:
            del self._waiting[number]
            if not self._waiting:
                self._idle = self._loop.call_later(IDLE, self.close)

    def close(self) -> None:
        """End it now; who waits is told."""
        if self._idle is not None:
            self._idle.cancel()
        if self._transport is not None:
            self._transport.abort()


class Line:
    """The way to one server at a time, with a few connections at most."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._to = ("", 0)
        self._connecting = asyncio.Lock()

    async def ask(self, host: str, port: int, query: bytes) -> bytes:
        """The reply of the server at ``host``, ``port``. Raises OSError.

        A connection that was kept may have been ended by the other side meanwhile: then once more, over a new one.
        """
        line, is_kept = await self._open(host, port)
        try:
            return await line.ask(query)
        except ConnectionError:
            if not is_kept:
                raise
        line, _ = await self._open(host, port)
        return await line.ask(query)

    def close(self) -> None:
        for line in self._lines:
            line.close()

    async def _open(self, host: str, port: int) -> tuple[_Line, bool]:
        """A connection, and whether it was there already: an idle one, a new one, or the least busy."""
        async with self._connecting:
            if self._to != (host, port):
                self.close()
                self._to = host, port
            self._lines = [line for line in self._lines if line.is_open]
            line = min(self._lines, key=lambda one: one.questions, default=None)
            is_kept = line is not None and (line.questions == 0 or len(self._lines) >= MAX_LINES)
            if line is None or not is_kept:
                _, line = await asyncio.get_running_loop().create_connection(_Line, host, port)
                self._lines.append(line)
            line.questions += 1
            return line, is_kept
