"""Asking another DNS server: over UDP from a socket of its own for every question, or over TCP.

A fresh socket has a port the kernel chose at random, is connected, so that nobody else's datagrams reach it, and
expects one random id and one question (RFC 5452).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from typing import Any, Protocol

from resolverd.host import Server

from .foreign import answers
from .tidy import let_go

_LENGTH = struct.Struct("!H")


class Upstream(Protocol):
    """Somebody who can be asked."""

    @property
    def is_near(self) -> bool:
        """Whether it may well ask this host in turn, so that a loop is the first thing to think of."""
        ...

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """The reply to ``query``, whose id is chosen anew. Waits without an end; raises OSError."""
        ...


class DnsServer:
    """A server with an address; its text is what logs call it."""

    def __init__(self, server: Server, mark: int = 0) -> None:
        self._server = server
        self._mark = mark

    def __str__(self) -> str:
        return str(self._server)

    @property
    def is_near(self) -> bool:
        return self._server.address.is_loopback

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        where = str(self._server.address), self._server.port
        return await (ask_over_tcp if tcp else _ask_over_udp)(*where, query, self._mark)


class _Expecting(asyncio.DatagramProtocol):
    """One socket that waits for the reply to ``query``; everything else is passed over."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.reply.done() and answers(data, self._query):
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _ask_over_udp(host: str, port: int, query: bytes, mark: int = 0) -> bytes:
    numbered = _with_new_id(query)
    loop = asyncio.get_running_loop()
    if mark:
        connected = await _connected(host, port, socket.SOCK_DGRAM, mark)
        transport, expecting = await loop.create_datagram_endpoint(lambda: _Expecting(numbered), sock=connected)
    else:
        where = (host, port)
        transport, expecting = await loop.create_datagram_endpoint(lambda: _Expecting(numbered), remote_addr=where)
    try:
        transport.sendto(numbered)
        return await expecting.reply
    finally:
        expecting.reply.cancel()
        transport.close()
        del expecting  # whose error would hold this frame, and everybody's who waits


async def ask_over_tcp(host: str, port: int, query: bytes, mark: int = 0) -> bytes:
    """The reply of the server at ``host``, ``port``, over a connection of its own (RFC 7766). Raises OSError."""
    numbered = _with_new_id(query)
    if mark:
        reader, writer = await asyncio.open_connection(sock=await _connected(host, port, socket.SOCK_STREAM, mark))
    else:
        reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_LENGTH.pack(len(numbered)) + numbered)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        reply = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended without an answer") from error
    finally:
        writer.transport.abort()
        asyncio.get_running_loop().call_soon(let_go, writer.transport)
    if not answers(reply, numbered):
        raise ConnectionAbortedError("the answer is to another question")
    return reply


async def _connected(host: str, port: int, kind: socket.SocketKind, mark: int) -> socket.socket:
    """A socket whose packets carry ``mark``, by which a redirection of the host's questions to us tells ours apart."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        await asyncio.get_running_loop().sock_connect(one, (host, port))
    except BaseException:
        one.close()
        raise
    return one


def _with_new_id(query: bytes) -> bytes:
    return secrets.token_bytes(2) + query[2:]
