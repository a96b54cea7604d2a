"""Between a kernel socket and a stream: octets in both directions, each as slow as its slower side, until both end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .client_linux import ClientState
from .transport import MAX_SEND, Delivering, Stream, StreamBrokenError

SILENCE_LIMIT = 60.0
"""Seconds of silence from the pod after which a client that has finished sending is taken to be gone, if the kernel
cannot tell. Port-forward cannot tell the pod that the client has ended, so a pod that waits for it would wait on."""
LINGER = 2.0
"""Seconds to read on after the pod has ended, so that the client gets its last octets and not a reset."""
_LOOKS = (0.02, 0.2, 1.0, 5.0)
"""Seconds between looks at a client that has finished sending; the last one again and again."""
_RESET_ON_CLOSE, _END_ON_CLOSE = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


@dataclass(slots=True, eq=False)
class Flow:
    """What a connection carries."""

    client: socket.socket
    stream: Stream
    client_state: Callable[[], ClientState]
    up: int = 0
    """Octets from the client."""
    down: int = 0
    """Octets to the client."""
    half_closed: bool = False
    """Whether the client has finished sending."""
    began: float = field(default_factory=time.monotonic)
    """Monotonic time, in seconds."""

    def count_down(self, octets: int) -> None:
        self.down += octets


async def relay(flow: Flow) -> None:
    """Carry until both sides have ended, then close both. A broken side resets the other.

    So does our own death: until the pod has ended in order, the kernel's closing of the socket is a reset.
    """
    reset_on_close(flow.client)
    up, down = asyncio.create_task(_up(flow)), asyncio.create_task(_down(flow))
    orderly = False
    try:
        orderly = await _until_ended(flow, up, down)
    finally:
        try:
            await _stop(up, down)
        finally:
            if orderly:
                _set_linger(flow.client, _END_ON_CLOSE)
            flow.client.close()
            await flow.stream.close()


def reset_on_close(client: socket.socket) -> None:
    """Make ``client`` send RST, not FIN, when it is closed."""
    _set_linger(client, _RESET_ON_CLOSE)


def _set_linger(client: socket.socket, value: bytes) -> None:
    with contextlib.suppress(OSError):  # macOS refuses once the client has reset it
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


async def close_all(streams: Iterable[Stream]) -> None:
    """Close them together."""
    await asyncio.gather(*(stream.close() for stream in streams))


async def _until_ended(flow: Flow, up: asyncio.Task[None], down: asyncio.Task[None]) -> bool:
    """Whether the pod has ended in order; the client then has it all."""
    await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
    if not down.done():
        error = up.exception()
        if isinstance(error, StreamBrokenError):
            await asyncio.wait([down], timeout=LINGER)  # it knows best how the far side ended
        elif error is None:
            flow.half_closed = True
            await _until_left(flow, down)
    if not down.done() or down.exception() is not None:
        return False
    if up.done() and up.exception() is None:
        return True  # nothing more comes of the client
    await _stop(up)
    return await _linger(flow.client)


async def _until_left(flow: Flow, down: asyncio.Task[None]) -> None:
    """Until the pod has ended, or nobody waits for it any more."""
    heard, silent = flow.down, 0.0
    for pause in itertools.chain(_LOOKS, itertools.repeat(_LOOKS[-1])):
        await asyncio.wait([down], timeout=pause)
        if down.done():
            return
        state = flow.client_state()
        silent = silent + pause if flow.down == heard and state is ClientState.UNKNOWN else 0.0
        heard = flow.down
        if state is ClientState.LEFT or silent >= SILENCE_LIMIT:
            return


async def _linger(client: socket.socket) -> bool:
    """End our side, and drop what the client still sends; False when it has reset the connection."""
    loop = asyncio.get_running_loop()
    try:
        client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER):
            while await loop.sock_recv(client, MAX_SEND):
                pass
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


async def _up(flow: Flow) -> None:
    """From the client to the pod, until the client's end."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(flow.client, MAX_SEND):
        flow.up += len(data)
        await flow.stream.send(data)


async def _down(flow: Flow) -> None:
    """From the pod to the client, until the pod's end."""
    if isinstance(flow.stream, Delivering):
        await flow.stream.deliver(flow.client, flow.count_down)
        return
    loop = asyncio.get_running_loop()
    while data := await flow.stream.receive():
        flow.down += len(data)
        await loop.sock_sendall(flow.client, data)


async def _stop(*tasks: asyncio.Task[None]) -> None:
    """Stop ``tasks``, so that nothing waits for a socket when it is closed; how they ended does not matter now."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
