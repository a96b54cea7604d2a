"""``pods/NAME/portforward`` over a websocket, subprotocol ``v4.channel.k8s.io`` (kubectl's own: :mod:`.spdy_upgrade`).

Port i of the request has two channels: 2i for data, 2i+1 for errors. Each begins with a frame that names the port
(little-endian 16 bits); every frame's first octet is its channel. One channel pair is one TCP connection to the pod.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any

from aiohttp import WSMsgType, web

from .faults import Faults
from .messages import send_messages
from .pod_servers import AT_ONCE, PodServers, dial_failure
from .spdy_upgrade import TUNNEL, UPGRADE, answer_tunnel, answer_upgrade
from .status import StatusError

Raw = dict[str, Any]

BINARY = "v4.channel.k8s.io"
BASE64 = "v4.base64.channel.k8s.io"
LARGEST_FROM_CLIENT = 32 * 2**20
"""Octets in a frame; a real kubelet's streaming server ends the connection above it."""
_BLOCK = 32 * 2**10 - 1
"""Octets of data in a frame to the client, so that frames are at most 32 KiB."""


async def answer(request: web.Request, pod: Raw, servers: PodServers, faults: Faults) -> web.StreamResponse:
    """Forward until every port's connection, or the client, is done. StatusError 400 when no upgrade is wanted."""
    upgrade = request.headers.get("Upgrade", "").lower()
    if upgrade == UPGRADE:
        return await answer_upgrade(request, pod, servers, faults)
    offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if word.strip()]
    chosen = next((word for word in offered if word in (BINARY, BASE64, TUNNEL)), "")
    if upgrade != "websocket":
        raise StatusError(400, "BadRequest", "Upgrade request required")
    if offered and not chosen:
        refusal = web.Response(status=403)
        refusal.force_close()
        return refusal
    ports = [] if chosen == TUNNEL else _ports(request)
    if isinstance(ports, str):
        return web.Response(status=400, text=ports + "\n", headers={"X-Content-Type-Options": "nosniff"})
    socket = web.WebSocketResponse(
        protocols=[chosen] if chosen else [], compress=False, max_msg_size=LARGEST_FROM_CLIENT, timeout=1
    )
    await socket.prepare(request)
    with faults.stream(request):
        if chosen == TUNNEL:
            await answer_tunnel(socket, pod, servers, faults)
        else:
            await _Forward(socket, pod, servers, faults, base64=chosen == BASE64).run(ports)
    return socket


def _ports(request: web.Request) -> list[int] | str:
    """The ports asked for, or why they cannot be."""
    words = [word for value in request.query.getall("ports", []) for word in value.split(",")]
    if not words:
        return 'query parameter "port" is required'
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) <= 65535):
            return f'unable to parse "{word}" as a port'
    return [int(word) for word in words]


class _Forward:
    """One websocket and its connections to the pod."""

    def __init__(
        self, socket: web.WebSocketResponse, pod: Raw, servers: PodServers, faults: Faults, *, base64: bool
    ) -> None:
        self._socket = socket
        self._pod = pod
        self._servers = servers
        self._faults = faults
        self._base64 = base64
        self._writers: dict[int, asyncio.Future[asyncio.StreamWriter | None]] = {}

    async def run(self, ports: list[int]) -> None:
        for index, port in enumerate(ports):
            self._writers[index] = asyncio.get_running_loop().create_future()
            for channel in (2 * index, 2 * index + 1):
                await self._send(channel, port.to_bytes(2, "little"))
        receiving = asyncio.create_task(self._receive())
        forwarding = asyncio.create_task(self._forward_all(ports))
        try:
            await asyncio.wait([receiving, forwarding], return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiving.cancel()
            forwarding.cancel()
            ended = await asyncio.gather(receiving, forwarding, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, ConnectionError):
                raise error
        await self._socket.close()

    async def _forward_all(self, ports: list[int]) -> None:
        await asyncio.gather(*(self._forward(index, port) for index, port in enumerate(ports)))

    async def _forward(self, index: int, port: int) -> None:
        """Connect to the pod and carry what it sends, or say on the error channel why that cannot be."""
        try:
            reader, writer = await self._servers.connect(self._pod, port)
        except OSError as error:
            self._writers[index].set_result(None)
            await self._send(2 * index + 1, dial_failure(self._pod, port, error).encode())
            return
        self._writers[index].set_result(writer)
        try:
            while octets := await reader.read(AT_ONCE):
                await self._send(2 * index, *(octets[at : at + _BLOCK] for at in range(0, len(octets), _BLOCK)))
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _receive(self) -> None:
        """Carry what the client sends; a slow pod slows the client down."""
        async for message in self._socket:
            await self._faults.pass_gate()
            frame = self._decode(message.type, message.data)
            index, is_error = divmod(frame[0], 2) if frame else (-1, 0)
            if index not in self._writers or is_error:
                continue
            writer = await self._writers[index]
            if writer is None or writer.is_closing():
                continue
            try:
                writer.write(frame[1:])
                await writer.drain()
            except ConnectionError:
                continue

    def _decode(self, kind: WSMsgType, data: Any) -> bytes:
        """Channel octet and payload; empty for what is no such frame."""
        if kind is WSMsgType.BINARY and not self._base64:
            return bytes(data)
        if kind is WSMsgType.TEXT and self._base64 and data[:1].isdigit():
            try:
                return bytes([int(data[0])]) + b64decode(data[1:], validate=True)
            except ValueError:
                return b""
        return b""

    async def _send(self, channel: int, *blocks: bytes) -> None:
        await self._faults.pass_gate()
        if self._base64:
            for block in blocks:
                await self._socket.send_str(f"{channel}{b64encode(block).decode()}")
        else:
            await send_messages(self._socket, *(bytes([channel]) + block for block in blocks))
