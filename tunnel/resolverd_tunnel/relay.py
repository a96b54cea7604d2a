"""Between a kernel socket and a stream: octets in both directions, each as slow as its slower side, until both end."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from .transport import MAX_SEND, Stream, StreamBrokenError

HALF_CLOSED_LIMIT = 60.0
"""Seconds of silence from the pod after which a client that has finished sending is taken to be gone.

Port-forward cannot tell the pod that the client has ended, so a pod that waits for it would hold on for ever.
"""
LINGER = 2.0
"""Seconds to read on after the pod has ended, so that the client gets its last octets and not a reset."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class Flow:
    """What a connection has carried."""

    client: socket.socket
    stream: Stream
    up: int = 0
    """Octets from the client."""
    down: int = 0
    """Octets to the client."""
    half_closed: bool = False
    """Whether the client has finished sending."""
    heard: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When the pod last sent something, by the clock of the loop."""


async def relay(flow: Flow) -> None:
    """Carry until both sides have ended, then close both. A broken side resets the other."""
    up, down = asyncio.create_task(_up(flow)), asyncio.create_task(_down(flow))
    orderly = False
    try:
        orderly = await _until_ended(flow, up, down)
    finally:
        await _end(up, down)
        if not orderly:
            reset_on_close(flow.client)
        flow.client.close()
        await flow.stream.close()


def reset_on_close(client: socket.socket) -> None:
    """Make ``client`` send RST, not FIN, when it is closed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


async def _until_ended(flow: Flow, up: asyncio.Task[None], down: asyncio.Task[None]) -> bool:
    """Whether both sides ended in order."""
    await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
    if not down.done():
        error = up.exception()
        if isinstance(error, StreamBrokenError):
            await asyncio.wait([down], timeout=LINGER)  # it knows best how the far side ended
        elif error is None:
            flow.half_closed = True
            await _until_silent(flow, down)
    if not down.done() or down.exception() is not None:
        return False
    try:
        flow.client.shutdown(socket.SHUT_WR)
    except OSError:  # the client has reset the connection
        return False
    if not up.done():
        await asyncio.wait([up], timeout=LINGER)
    return True


async def _until_silent(flow: Flow, down: asyncio.Task[None]) -> None:
    loop = asyncio.get_running_loop()
    while not down.done() and (left := flow.heard + HALF_CLOSED_LIMIT - loop.time()) > 0:
        await asyncio.wait([down], timeout=left)


async def _up(flow: Flow) -> None:
    """From the client to the pod, until the client's end."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(flow.client, MAX_SEND):
        flow.up += len(data)
        await flow.stream.send(data)


async def _down(flow: Flow) -> None:
    """From the pod to the client, until the pod's end."""
    loop = asyncio.get_running_loop()
    while data := await flow.stream.receive():
        flow.heard = loop.time()
        flow.down += len(data)
        await loop.sock_sendall(flow.client, data)


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Stop ``tasks``, so that nothing waits for a socket when it is closed; their errors have been looked at."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def close_all(streams: Iterable[Stream]) -> None:
    await asyncio.gather(*(stream.close() for stream in streams))
