"""The processes in the pods: real HTTP and TCP servers on loopback, one for each container port.

A server is started when its port is first dialled, so that a cluster of thousands of pods costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .pods import Serve, listening

Raw = dict[str, Any]

_BLOCK = bytes(range(256)) * 256
"""64 KiB of the pattern that ``/bytes/N`` repeats: octet i is i modulo 256."""
AT_ONCE = 2**18
"""Most octets of a pod that are taken together, in however many frames they are sent on."""
_LARGEST_ECHO = 64 * 2**20


@dataclass(slots=True)
class _Listener:
    port: int
    server: asyncio.Server
    http: web.Server | None
    echoes: set[asyncio.StreamWriter] = field(default_factory=set)


class PodServers:
    """Everything that listens in the pods."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[int, _Listener]] = {}
        self._starting = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()

    async def address(self, pod: Raw, port: int) -> tuple[str, int]:
        """Where on loopback ``port`` of ``pod`` is served. ConnectionRefusedError when nothing listens there."""
        mode = listening(pod).get(port)
        if mode is None:
            raise ConnectionRefusedError
        # Whoever dials may be cancelled; a listener that has been started is kept.
        return "127.0.0.1", await asyncio.shield(asyncio.create_task(self._start(pod, port, mode)))

    async def _start(self, pod: Raw, port: int, mode: Serve) -> int:
        async with self._starting:
            ports = self._listeners.setdefault(pod["metadata"]["uid"], {})
            if port not in ports:
                ports[port] = await _listen(pod["metadata"], port, mode)
            return ports[port].port

    async def connect(self, pod: Raw, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to ``port`` of ``pod``. ConnectionRefusedError."""
        return await asyncio.open_connection(*await self.address(pod, port), limit=AT_ONCE)

    def stop(self, uid: str) -> None:
        """Stop listening in the pod with this uid and break its connections."""
        for listener in self._listeners.pop(uid, {}).values():
            task = asyncio.get_running_loop().create_task(_stop(listener))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Stop everything."""
        for uid in tuple(self._listeners):
            self.stop(uid)
        await asyncio.gather(*self._stopping)


def dial_failure(pod: Raw, port: int, error: OSError) -> str:
    """Why ``port`` cannot be dialled, in the words of a container runtime; it leaves the uid empty."""
    name, address = pod["metadata"]["name"], pod["status"].get("podIP", "")
    why = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
    dial = f"failed to dial {port}: dial tcp {address}:{port}: connect: {why}"
    return f"error forwarding port {port} to pod {name}, uid : {dial}"


async def _listen(metadata: Raw, port: int, mode: Serve) -> _Listener:
    loop = asyncio.get_running_loop()
    if mode is Serve.HTTP:
        http = web.Server(_HttpPod(metadata["name"], metadata["namespace"], port).answer, access_log=None)
        server = await loop.create_server(http, "127.0.0.1", 0)
        return _Listener(server.sockets[0].getsockname()[1], server, http)
    echoes: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoes.add(writer)
        try:
            await _echo(reader, writer)
        finally:
            echoes.discard(writer)
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return _Listener(server.sockets[0].getsockname()[1], server, None, echoes)


async def _stop(listener: _Listener) -> None:
    listener.server.close()
    for writer in tuple(listener.echoes):
        writer.transport.abort()
    if listener.http is not None:
        for handler in listener.http.connections:
            if handler.transport is not None:
                handler.transport.abort()
        await listener.http.shutdown(1)
    await listener.server.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes in until the peer has finished."""
    try:
        while octets := await reader.read(2**16):
            writer.write(octets)
            await writer.drain()
    except ConnectionError:
        return


@dataclass(frozen=True, slots=True)
class _HttpPod:
    """The web server in one container."""

    name: str
    namespace: str
    port: int

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """``/bytes/N``, ``/status/N``, ``/echo``; anything else says which pod this is and what was asked."""
        match request.path.strip("/").split("/"):
            case ["bytes", count] if count.isascii() and count.isdigit():
                return await _stream(request, int(count))
            case ["status", code] if code.isascii() and code.isdigit() and 200 <= int(code) <= 599:
                return web.Response(status=int(code), text=f"{self._who()} says {code}\n")
            case ["echo"] if request.method == "POST":
                return await _echo_body(request)
        return web.Response(text=f"{self._who()} got {request.method} {request.path_qs}\n")

    def _who(self) -> str:
        return f"pod {self.name} in namespace {self.namespace}, port {self.port},"


async def _stream(request: web.BaseRequest, count: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = count
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # whoever asked has enough of it
        async for block in _pattern(count):
            await response.write(block)
    return response


async def _pattern(count: int) -> AsyncIterator[bytes]:
    for _ in range(count // len(_BLOCK)):
        yield _BLOCK
    if count % len(_BLOCK):
        yield _BLOCK[: count % len(_BLOCK)]


async def _echo_body(request: web.BaseRequest) -> web.StreamResponse:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _LARGEST_ECHO:
            return web.Response(status=413, text="too large\n")
    return web.Response(body=bytes(body), content_type=request.content_type)
