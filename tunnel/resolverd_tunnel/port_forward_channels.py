"""Port-forward by subprotocol ``v4.channel.k8s.io``: one connection to a pod is one websocket.

Channel 0 carries data, channel 1 an error text; each begins with a message that names the port (little-endian 16
bits). The first octet of every message is its channel. Half-closing cannot be said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .port_forward_stream import PortForwardStream
from .transport import StreamBrokenError, TransportError
from .websocket import WebSocket
from .websocket_frames import FrameError

PROTOCOL = "v4.channel.k8s.io"
LARGEST_TEXT = 4096
"""Octets of an error that are looked at."""
_DATA, _ERROR = 0, 1


class Channels:
    """The two channels of one websocket, and the stream that they are."""

    def __init__(self, websocket: WebSocket, port: int, on_word: Callable[[bool], None]) -> None:
        self.websocket = websocket
        self.stream = PortForwardStream(self, on_word)
        self._expected = [bytes([channel]) + port.to_bytes(2, "little") for channel in (_DATA, _ERROR)]
        """The announcements that are still to come."""
        self._announced = asyncio.get_running_loop().create_future()
        self._port = port
        self._channel = _DATA
        self._message = bytearray()
        """What has come of a message that is no data."""

    async def announced(self) -> None:
        """Until both channels have named the port. TransportError."""
        await self._announced

    # Receiver

    def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
        if starts:
            self._channel = data[0]
        if self._channel == _DATA and not self._expected:
            if starts:
                data = data[1:]
            if data:
                self.stream.feed(data)
            return
        self._message += data[: LARGEST_TEXT - len(self._message)]
        if ends:
            message = bytes(self._message)
            self._message.clear()
            self._take(message)

    def fed(self) -> None:
        self.stream.fed()

    def ended(self, why: str) -> None:
        self._refuse(why or "the websocket was closed")
        self.stream.end(StreamBrokenError(why) if why else b"")

    def _take(self, message: bytes) -> None:
        if self._expected:
            if message != self._expected.pop(0):
                why = f"the API server did not announce port {self._port}"
                self._refuse(why)
                raise FrameError(why)
            if not self._expected and not self._announced.done():
                self._announced.set_result(None)
        elif self._channel == _ERROR and len(message) > 1:
            self.stream.fed()
            self.stream.say_error(message[1:])

    def _refuse(self, why: str) -> None:
        if not self._announced.done():
            self._announced.set_exception(TransportError("port-forward", why))

    # Carrier

    def send(self, data: bytes) -> None:
        self.websocket.send(bytearray(b"\0" + data))

    async def let_go(self) -> None:
        if self._announced.done() and not self._announced.cancelled():
            self._announced.exception()
        await self.websocket.close()
