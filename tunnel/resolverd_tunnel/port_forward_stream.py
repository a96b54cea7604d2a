"""One connection of the transport ``port-forward``: between what carries it and whoever it is carried for.

What arrives goes straight to the client's socket once there is one (:meth:`PortForwardStream.deliver`), all that was
received at once in one call; what the socket does not take is kept, and nothing more is received until it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from resolverd.errors import one_line

from .transport import StreamBrokenError, TransportError
from .websocket import WebSocket

KEPT = 2**18
"""Octets that are kept before whoever sends is made to wait."""
_AT_ONCE = 512
"""Most pieces in one call; the kernel takes 1,024."""


class Carrier(Protocol):
    """What a stream goes over."""

    websocket: WebSocket

    def send(self, data: bytes) -> None:
        """Send octets to the pod."""
        ...

    async def let_go(self) -> None:
        """The stream is no more."""
        ...


class PodError(StreamBrokenError):
    """What the node said of a connection."""


class PortForwardStream:
    """One connection."""

    def __init__(self, carrier: Carrier, on_word: Callable[[bool], None]) -> None:
        """``on_word`` is told that the port has sent data (True), or that the node had an error to tell (False)."""
        self._carrier = carrier
        self._websocket = carrier.websocket
        self._on_word = on_word
        self._answered = False
        self._pieces: list[memoryview] = []
        self._kept: deque[bytes] = deque()
        self._size = 0
        """Octets in ``_kept``."""
        self._news = asyncio.Event()
        """Set when there is something to take, or to know."""
        self._end: StreamBrokenError | bytes | None = None
        self._client: socket.socket | None = None
        self._client_error: OSError | None = None
        self._count: Callable[[int], None] | None = None
        self._closed = False
        self.on_close: Callable[[], None] = lambda: None

    @property
    def is_broken(self) -> bool:
        """Whether it ended without a word: nobody knows yet how many others did."""
        return isinstance(self._end, StreamBrokenError) and not isinstance(self._end, PodError)

    @property
    def has_ended(self) -> bool:
        """Whether its pod has."""
        return self._end is not None

    # For the pulse.

    def is_stuck(self, limit: float) -> bool:
        silence = self._websocket.silence()
        return silence is not None and silence.unacknowledged and silence.seconds >= limit

    def heard_since(self, moment: float) -> bool:
        elapsed = asyncio.get_running_loop().time() - moment
        silence = self._websocket.silence()
        if silence is not None and silence.seconds >= elapsed:
            return False
        return not self._websocket.is_reading or self._websocket.heard >= moment

    async def ping(self) -> None:
        if not self._websocket.is_full:  # a stream whose pod takes nothing cannot be asked
            self._websocket.ping()

    def fail(self, why: str) -> None:
        self._websocket.fail(why)

    # For what carries it.

    def feed(self, data: memoryview) -> None:
        """Take octets from the pod; they are valid until :meth:`fed` returns."""
        self._pieces.append(data)

    def fed(self) -> None:
        """That was all for now."""
        if not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        if not self._answered:
            self._answered = True
            self._on_word(True)
        if self._client is None or self._kept:
            self._keep(b"".join(pieces))
        else:
            self._hand_over(self._client, pieces)

    def say_error(self, text: bytes) -> None:
        """What the node has to tell: the connection could not be made, or has broken."""
        self._on_word(False)
        self.end(PodError(one_line(text.decode(errors="replace"))))

    def end(self, how: StreamBrokenError | bytes) -> None:
        """Nothing more will come; ``how`` is empty when the pod has ended in order."""
        if self._end is None:
            self._end = how
            self._news.set()

    # For whoever carries.

    async def await_acceptance(self, grace: float) -> None:
        """Wait ``grace`` seconds for bad news; ConnectionRefusedError or TransportError when it comes."""
        if grace and not self._news.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._news.wait()
        error = self._end
        if not isinstance(error, StreamBrokenError) or self._kept:
            return
        if isinstance(error, PodError) and "refused" in str(error):
            raise ConnectionRefusedError(str(error))
        raise TransportError("port-forward", str(error))

    async def receive(self) -> bytes:
        while not self._kept:
            if self._end is not None:
                return self._ended()
            self._news.clear()
            await self._news.wait()
        data = self._kept.popleft()
        self._size -= len(data)
        if self._size < KEPT:
            self._websocket.resume()
        return data

    async def deliver(self, client: socket.socket, count: Callable[[int], None]) -> None:
        """Send ``client`` what comes, until the pod's orderly end; ``count`` is told how much.

        StreamBrokenError, or OSError of the client.
        """
        loop = asyncio.get_running_loop()
        while self._kept:
            data = await self.receive()
            await loop.sock_sendall(client, data)
            count(len(data))
        self._client, self._count = client, count
        try:
            while self._client_error is None and (self._end is None or self._kept):
                self._news.clear()
                await self._news.wait()
        finally:
            self._client = None
            loop.remove_writer(client)
        if self._client_error is not None:
            raise self._client_error
        self._ended()

    async def send(self, data: bytes) -> None:
        websocket = self._websocket
        if self._end is None and websocket.is_open:
            self._carrier.send(data)
            if websocket.is_full:
                await websocket.writable()
            return
        self.end(StreamBrokenError("the websocket is closed"))
        raise StreamBrokenError(str(self._end or "the pod has ended"))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._carrier.let_go()
            finally:
                self.on_close()

    def _ended(self) -> bytes:
        if isinstance(self._end, StreamBrokenError):
            raise self._end
        return b""

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._size += len(data)
        if self._size >= KEPT:
            self._websocket.pause()
        self._news.set()

    def _hand_over(self, client: socket.socket, pieces: list[memoryview]) -> None:
        """Send ``pieces`` now, as far as the client takes them; then wait for it."""
        total = sum(map(len, pieces))
        try:
            sent = client.sendmsg(pieces if len(pieces) <= _AT_ONCE else [b"".join(pieces)])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        if self._count:
            self._count(sent)
        if sent < total:
            self._kept.append(b"".join(pieces)[sent:])
            self._size += total - sent
            self._websocket.pause()
            asyncio.get_running_loop().add_writer(client, self._catch_up, client)

    def _lose(self, error: OSError) -> None:
        """The client is gone."""
        self._client, self._client_error = None, error
        self._news.set()

    def _catch_up(self, client: socket.socket) -> None:
        data = self._kept.popleft()
        try:
            sent = client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            asyncio.get_running_loop().remove_writer(client)
            self._lose(error)
            return
        self._size -= sent
        if self._count:
            self._count(sent)
        if sent < len(data):
            self._kept.appendleft(data[sent:])
        elif not self._kept:
            asyncio.get_running_loop().remove_writer(client)
            self._websocket.resume()
            self._news.set()
