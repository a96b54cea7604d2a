"""Port-forward as kubectl does it: protocol ``portforward.k8s.io`` in one SPDY/3.1 session.

Each connection to the pod has two streams with one ``requestID``: ``data``, and ``error``, on which the node says why a
connection cannot be. There is no flow control, as in the real server: a pod that takes nothing stops the whole session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from resolverd.cluster.spdy import Decoder, Encoder, Frame, Kind, SpdyError

from .faults import Faults
from .pod_servers import AT_ONCE, PodServers, dial_failure

log = logging.getLogger(__name__)

Raw = dict[str, Any]

_BLOCK = 32 * 2**10
"""Octets of data in a frame to the client, as a real node sends them."""
_LINGER = 1.0
"""Seconds that a real node's runtime leaves a connection after its client has finished sending."""


class Carrier(Protocol):
    """What the octets of a session travel on."""

    async def receive(self) -> bytes:
        """Some octets; empty at the end."""
        ...

    async def send(self, *frames: bytes) -> None:
        """Send all of them, the octets of a frame each; waits while the client is slow. ConnectionError."""
        ...


@dataclass(eq=False, slots=True)
class _Pair:
    """The two streams of one connection, and the connection."""

    port: int
    streams: dict[str, int] = field(default_factory=dict)
    """``data`` and ``error`` -> number."""
    writer: asyncio.Future[asyncio.StreamWriter | None] = field(default_factory=asyncio.Future)
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task:
            self.task.cancel()


class SpdyForward:
    """One session and its connections to the pod."""

    def __init__(self, carrier: Carrier, pod: Raw, servers: PodServers, faults: Faults) -> None:
        self._carrier = carrier
        self._pod = pod
        self._servers = servers
        self._faults = faults
        self._encoder = Encoder()
        self._sending = asyncio.Lock()
        self._pairs: dict[str, _Pair] = {}
        """By requestID."""
        self._of_stream: dict[int, _Pair] = {}

    async def run(self) -> None:
        """Until the client has gone."""
        decoder = Decoder()
        try:
            while octets := await self._carrier.receive():
                await self._faults.pass_gate()
                for frame in decoder.feed(octets):
                    await self._take(frame)
        except SpdyError as error:
            log.warning("port-forward: %s", error)
        except ConnectionError as error:
            log.debug("port-forward: %s", error)
        finally:
            tasks = [pair.task for pair in self._pairs.values() if pair.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, frame: Frame) -> None:
        pair = self._of_stream.get(frame.number)
        match frame.kind:
            case Kind.SYN_STREAM:
                await self._open(frame.number, frame.headers)
            case Kind.PING:
                await self._send(frame)
            case Kind.RST_STREAM if pair:
                pair.cancel()
            case Kind.DATA if pair and frame.number == pair.streams.get("data"):
                await self._pass_on(pair, frame)

    async def _open(self, number: int, headers: Mapping[str, str]) -> None:
        """Take a new stream; the second of a pair begins the connection."""
        kind, port, request = (headers.get(name, "") for name in ("streamtype", "port", "requestid"))
        pair = self._pairs.get(request)
        is_known = kind in ("data", "error") and port.isascii() and port.isdigit() and 0 < int(port) <= 65535
        if not is_known or (pair and kind in pair.streams):
            await self._send(Frame(Kind.RST_STREAM, number))
            return
        if pair is None:
            pair = self._pairs[request] = _Pair(int(port))
        pair.streams[kind] = number
        self._of_stream[number] = pair
        await self._send(Frame(Kind.SYN_REPLY, number))
        if len(pair.streams) == 2:
            pair.task = asyncio.create_task(self._forward(request, pair))

    async def _forward(self, request: str, pair: _Pair) -> None:
        """Connect to the pod and carry what it sends, or say on the error stream why that cannot be."""
        writer = None
        try:
            reader, writer = await self._servers.connect(self._pod, pair.port)
            pair.writer.set_result(writer)
            while octets := await reader.read(AT_ONCE):
                blocks = (octets[at : at + _BLOCK] for at in range(0, len(octets), _BLOCK))
                await self._send(*(Frame(Kind.DATA, pair.streams["data"], data=block) for block in blocks))
        except OSError as error:
            if writer is None:
                why = dial_failure(self._pod, pair.port, error).encode()
                await self._send(Frame(Kind.DATA, pair.streams["error"], data=why))
        finally:
            if not pair.writer.done():
                pair.writer.set_result(None)
            if writer:
                writer.close()
            del self._pairs[request]
            with contextlib.suppress(ConnectionError):  # the client has gone
                for number in pair.streams.values():
                    del self._of_stream[number]
                    await self._send(Frame(Kind.DATA, number, is_last=True))

    async def _pass_on(self, pair: _Pair, frame: Frame) -> None:
        if pair.task is None:
            return
        writer = await pair.writer
        if writer is not None and frame.data and not writer.is_closing():
            try:
                writer.write(frame.data)
                await writer.drain()
            except ConnectionError as error:
                log.debug("port-forward: the pod is gone: %s", error)
        if frame.is_last:
            asyncio.get_running_loop().call_later(_LINGER, pair.cancel)

    async def _send(self, *frames: Frame) -> None:
        await self._faults.pass_gate()
        async with self._sending:
            await self._carrier.send(*map(self._encoder.encode, frames))
