"""Port-forward by subprotocol ``SPDY/3.1+portforward.k8s.io``: a session with a pod, for its connections in turn.

Each connection has two streams with one ``requestID``: ``data``, and ``error``, on which the node says why it cannot
be. SPDY as Kubernetes speaks it has no flow control: two connections in one session would wait for each other. So a
session carries one at a time, and when that has ended it may carry the next, without a handshake or a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from resolverd.cluster.spdy import Decoder, Encoder, Frame, Kind, SpdyError

from .port_forward_stream import PortForwardStream
from .transport import StreamBrokenError, TransportError
from .websocket import WebSocket
from .websocket_frames import FrameError

log = logging.getLogger(__name__)

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CLEAN_LIMIT = 1.0
"""Seconds for a session to show that nothing of its last connection is in the way."""
LARGEST_TEXT = 4096
"""Octets of an error that are looked at."""
_LAST_NUMBER = 2**31 - 8
"""Stream numbers are not used twice."""


class Session:
    """One session."""

    def __init__(self, websocket: WebSocket, on_free: Callable[[Session], None]) -> None:
        """``on_free`` is called when a connection has ended, whatever became of the session."""
        self.websocket = websocket
        self._on_free = on_free
        self.used = 0
        """How many connections it has carried."""
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._number = -1
        self._pings = -1
        self._pong: asyncio.Future[None] | None = None
        self._current: _Connection | None = None
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether it may carry another connection."""
        return not self._is_over and self._number < _LAST_NUMBER and self.websocket.is_open

    async def open(self, port: int, on_word: Callable[[bool], None]) -> PortForwardStream:
        """A connection to ``port`` of the pod, which the node has taken on; not yet dialled. TransportError."""
        error, data = self._number + 2, self._number + 4
        self._number = data
        connection = self._current = _Connection(self, data, error, on_word)
        headers = {"port": str(port), "requestid": str(self.used)}
        self.used += 1
        self.write(
            Frame(Kind.SYN_STREAM, error, headers={"streamtype": "error", **headers}),
            Frame(Kind.DATA, error, is_last=True),
            Frame(Kind.SYN_STREAM, data, headers={"streamtype": "data", **headers}),
        )
        try:
            await connection.taken
        except BaseException:
            await connection.let_go()
            raise
        return connection.stream

    def write(self, *frames: Frame) -> None:
        if frames and self.websocket.is_open:
            self.websocket.send(bytearray().join(map(self._encoder.encode, frames)))

    def send(self, number: int, data: bytes) -> None:
        """Send octets on a stream."""
        head = number.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        self.websocket.send(bytearray(head + data))

    async def clean(self) -> bool:
        """Whether a connection that the node has not ended is out of the way; what still comes of it is dropped."""
        if not self.is_open or self.websocket.is_full:
            return False
        self._pings += 2
        self._pong = asyncio.get_running_loop().create_future()
        self.write(Frame(Kind.PING, self._pings))  # behind everything else, and the node takes one after the other
        try:
            async with asyncio.timeout(CLEAN_LIMIT):
                await self._pong
        except TimeoutError:
            return False
        return self.is_open

    def freed(self, *left: int) -> None:
        """Its connection is no more, and ``left`` are the streams that the node has not ended."""
        self._current = None
        self.websocket.resume()
        if not left:
            self.spoil()  # the pod has ended it, and may be gone: whoever connects next is to ask for it anew
        self.write(*(Frame(Kind.RST_STREAM, number) for number in left))
        self._on_free(self)

    async def close(self) -> None:
        """End it; once. What compresses its headers takes a quarter of a MiB and does not wait for the collector."""
        try:
            await self.websocket.close()
        finally:
            del self._encoder, self._decoder

    def spoil(self) -> None:
        """Carry no further connection."""
        self._is_over = True

    # Receiver

    def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
        try:
            for frame in self._decoder.feed(data):
                if frame.kind is Kind.DATA:
                    if self._current:
                        self._current.take(frame)
                else:
                    self._control(frame)
        except SpdyError as error:
            raise FrameError(str(error)) from error

    def fed(self) -> None:
        if self._current:
            self._current.stream.fed()

    def ended(self, why: str) -> None:
        self._is_over = True
        if self._pong and not self._pong.done():
            self._pong.set_result(None)
        if self._current:
            self._current.break_off(why or "the API server has ended the session")

    def _control(self, frame: Frame) -> None:
        if frame.kind is Kind.PING:
            if frame.number % 2 == 0:
                if not self.websocket.is_full:
                    self.write(frame)
            elif frame.number == self._pings and self._pong and not self._pong.done():
                self._pong.set_result(None)
        elif frame.kind is Kind.GOAWAY:
            self._is_over = True
        elif self._current:
            self._current.control(frame)


class _Connection:
    """One connection in a session."""

    def __init__(self, session: Session, data: int, error: int, on_word: Callable[[bool], None]) -> None:
        self.websocket = session.websocket
        self.stream = PortForwardStream(self, on_word)
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the node has taken both streams."""
        self._session = session
        self._data = data
        self._untaken = {data, error}
        self._open = {data, error}
        """Streams that the node has not ended."""
        self._text = bytearray()

    def take(self, frame: Frame) -> None:
        """Take data of one of its streams, or of one before."""
        if frame.number not in self._open:
            return
        if frame.data and isinstance(frame.data, memoryview):
            if frame.number == self._data:
                self.stream.feed(frame.data)
            elif len(self._text) < LARGEST_TEXT:
                self._text += frame.data
        if frame.is_last:
            self._ended(frame.number)

    def control(self, frame: Frame) -> None:
        if frame.number not in self._open:
            return
        if frame.kind is Kind.SYN_REPLY:
            self._untaken.discard(frame.number)
            if not self._untaken and not self.taken.done():
                self.taken.set_result(None)
            if frame.is_last:
                self._ended(frame.number)
        elif frame.kind is Kind.RST_STREAM:
            self._open.discard(frame.number)
            self.break_off("the node has reset the connection")

    def break_off(self, why: str) -> None:
        """It has ended, and not in order."""
        self.stream.fed()
        self.stream.end(StreamBrokenError(why))
        if not self.taken.done():
            self.taken.set_exception(TransportError("port-forward", why))

    def _ended(self, number: int) -> None:
        self._open.discard(number)
        if self._text and number != self._data:
            self.stream.fed()
            self.stream.say_error(bytes(self._text))
            if b"refused" not in self._text:  # of the pod's sandbox, perhaps, which belongs to the session
                self._session.spoil()
        elif number == self._data:  # the error stream ends before it, so there was no error
            self.stream.fed()
            self.stream.end(b"")

    # Carrier

    def send(self, data: bytes) -> None:
        self._session.send(self._data, data)

    async def let_go(self) -> None:
        if self.taken.done() and not self.taken.cancelled():
            self.taken.exception()
        left = sorted(self._open)
        self._open.clear()
        self._session.freed(*left)
