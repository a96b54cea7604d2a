"""DNS over TCP (RFC 7766): pipelined, bounded in everything a peer could make grow."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from resolverd.sockets import BACKLOG

from .dispatch import Dispatcher
from .message import HEADER_SIZE
from .tidy import let_go

log = logging.getLogger(__name__)

FIRST_QUERY = 5.0
"""Seconds a new connection has for its first whole query."""
IDLE = 10.0
"""Seconds between two queries, and for a peer to take what it asked for."""
MAX_CONNECTIONS = 512
"""At most; beyond, the one that was idle longest makes room."""
TURN = 64
"""Queries of one connection answered before the others have a turn."""
WRITE_LIMIT = 64 * 1024
"""Octets of replies waiting in a connection until no more of its queries are read."""
MOST_UNSENT = 512 * 1024
"""Octets of replies waiting in a connection after which it is dropped: others may answer what was asked before."""
_LENGTH = struct.Struct("!H")


class TcpConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._held = 0
        """Replies that wait for their routes."""
        self._is_blocked = False
        """The peer does not read."""
        self._is_scheduled = False
        self._is_ended = False
        """The peer sends no more."""
        self.deadline = 0.0
        """On the loop's clock."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for the type checker: a stream server's
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self._server.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            let_go(self._transport)
        self._transport = None
        self._unread.clear()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._work()

    def eof_received(self) -> bool:
        """The answers still go out after a half-close."""
        self._is_ended = True
        self._work()
        return True

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._work()

    def abort(self) -> None:
        """Drop the connection, and what was not yet sent, at once."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Answer whole queries while the peer takes the replies, then see what to read next."""
        for _ in range(TURN):
            if self._is_blocked or self._transport is None or not self._answer_one():
                break
        else:
            self._schedule()
        self._settle()

    def _answer_one(self) -> bool:
        """Answer the first whole query there is; False when there is none."""
        if len(self._unread) < _LENGTH.size:
            return False
        end = _LENGTH.size + int(_LENGTH.unpack_from(self._unread)[0])
        if end < _LENGTH.size + HEADER_SIZE:
            log.debug("a frame too short for a message: dropping the connection")
            self.abort()
            self._unread.clear()
            return False
        if len(self._unread) < end:
            return False
        query = bytes(self._unread[_LENGTH.size : end])
        del self._unread[:end]
        self._server.active(self, IDLE)
        self._held += 1
        dispatcher = self._server.dispatcher
        send: Callable[[bytes], None] = self._send
        if dispatcher.tap is not None:
            peer = self._transport.get_extra_info("peername") if self._transport else None
            send = dispatcher.noting(dispatcher.tap, peer or ("", 0), query, send)
        answered = dispatcher.handle(query, send, tcp=True)
        if not answered:
            self._held -= 1
        return True

    def _send(self, wire: bytes) -> None:
        self._held -= 1
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(_LENGTH.pack(len(wire)) + wire)
        if self._is_blocked and self._transport.get_write_buffer_size() > MOST_UNSENT:
            log.debug("a peer that asks and does not read: dropping the connection")
            self.abort()
        elif self._is_ended:
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._is_scheduled = False
        self._work()

    def _settle(self) -> None:
        """Stop reading while there is enough to do; close when everything asked before a half-close was answered."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_ended:
            if not (self._held or self._is_blocked or self._is_scheduled):
                self._transport.close()
        elif self._is_blocked or self._is_scheduled:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class TcpServer:
    """Serves one listening socket."""

    def __init__(self, dispatcher: Dispatcher, limit: int = MAX_CONNECTIONS) -> None:
        self.dispatcher = dispatcher
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._connections: OrderedDict[TcpConnection, None] = OrderedDict()
        """The longest idle one first."""
        self._server: asyncio.Server | None = None
        self._sweep = self._loop.call_later(1.0, self._on_sweep)

    async def listen(self, listening: socket.socket) -> None:
        """Begin to accept; takes over ``listening``."""
        listening.setblocking(False)
        self._server = await self._loop.create_server(lambda: TcpConnection(self), sock=listening)
        # asyncio made its own number of accepts in one turn, 100, the length of the kernel's queue, too. Who finds that
        # full waits a second for its next try.
        listening.listen(BACKLOG)

    def __len__(self) -> int:
        return len(self._connections)

    def opened(self, connection: TcpConnection) -> None:
        if len(self._connections) >= self._limit:
            longest_idle = next(iter(self._connections))
            del self._connections[longest_idle]
            longest_idle.abort()
        self.active(connection, FIRST_QUERY)

    def active(self, connection: TcpConnection, seconds: float) -> None:
        """``connection`` may stay for ``seconds`` from now."""
        connection.deadline = self._loop.time() + seconds
        self._connections[connection] = None
        self._connections.move_to_end(connection)

    def closed(self, connection: TcpConnection) -> None:
        with suppress(KeyError):
            del self._connections[connection]

    def close(self) -> None:
        """Stop accepting, and drop every connection."""
        self._sweep.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def _on_sweep(self) -> None:
        now = self._loop.time()
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.abort()
        self._sweep = self._loop.call_later(1.0, self._on_sweep)
