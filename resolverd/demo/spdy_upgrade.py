"""The two ways in which kubectl gets its SPDY session: ``Upgrade: SPDY/3.1``, and since 1.31 inside a websocket."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import WSMsgType, web

from .faults import Faults
from .messages import send_messages
from .pod_servers import PodServers
from .spdy_forward import Carrier, SpdyForward

Raw = dict[str, Any]

UPGRADE = "spdy/3.1"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
"""Subprotocol of the websocket."""
_PROTOCOL = "portforward.k8s.io"
_BLOCK = 64 * 2**10


async def answer_upgrade(request: web.Request, pod: Raw, servers: PodServers, faults: Faults) -> web.StreamResponse:
    """Forward until the client is done; 400 or 403 when it speaks another protocol."""
    offered = request.headers.getall("X-Stream-Protocol-Version", [])
    if not offered:
        return web.Response(status=400, text="unable to upgrade: X-Stream-Protocol-Version is required\n")
    if _PROTOCOL not in offered:
        return web.Response(status=403, headers={"X-Accepted-Stream-Protocol-Versions": _PROTOCOL})
    upgraded = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": _PROTOCOL}
    response = web.StreamResponse(status=101, headers=upgraded)
    with faults.stream(request):
        carrier = _Upgraded(request, response)
        await response.prepare(request)
        await SpdyForward(carrier, pod, servers, faults).run()
    request.protocol.force_close()
    return response


async def answer_tunnel(socket: web.WebSocketResponse, pod: Raw, servers: PodServers, faults: Faults) -> None:
    """Forward until the client is done."""
    await SpdyForward(_Tunnelled(socket), pod, servers, faults).run()
    await socket.close()


class _Upgraded(Carrier):
    """The connection that the request came on."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        self._response = response
        self._reader = asyncio.StreamReader(_BLOCK)
        self._reader.set_transport(request.transport)
        request.protocol.keep_alive(False)
        request.protocol.set_parser(self)  # type: ignore[arg-type]  # it calls the two methods below

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(octets)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    async def receive(self) -> bytes:
        return await self._reader.read(_BLOCK)

    async def send(self, *frames: bytes) -> None:
        await self._response.write(b"".join(frames))


class _Tunnelled(Carrier):
    """The messages of a websocket, wherever they are cut."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY and message.data:  # kubectl sends empty ones, too
                return bytes(message.data)
        return b""

    async def send(self, *frames: bytes) -> None:
        await send_messages(self._socket, *frames)
