"""One connection of the transport ``port-forward``: frames of both channels in, frames of data out (see there)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import aiohttp
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMessage, WSMsgType

from resolverd.errors import one_line

from .kernel_silence import keep_alive, silence_of
from .transport import StreamBrokenError, TransportError

log = logging.getLogger(__name__)

CLOSE_LIMIT = 1.0
"""Seconds for the other side to confirm the end."""
PING_LIMIT = 0.5
"""Seconds to get rid of a ping: a stream whose pod takes nothing cannot be asked."""
_DATA, _ERROR = 0, 1


class PortForwardStream:
    """One connection."""

    def __init__(
        self,
        websocket: ClientWebSocketResponse,
        on_word: Callable[[bool], None],
        on_end: Callable[[PortForwardStream], None],
    ) -> None:
        self._websocket = websocket
        self._on_word = on_word
        self._on_end = on_end
        self._answered = False
        self._closed = False
        self._pending: asyncio.Task[bytes] | None = None
        """A receive that was begun while we waited for acceptance."""
        self._connection: socket.socket | None = websocket.get_extra_info("socket")
        self._listening = False
        """Whether what arrives is taken at once."""
        self._heard = asyncio.get_running_loop().time()
        self._failure = ""
        self.is_broken = False
        """Whether it ended without a word: nobody knows yet how many others did."""

    def keep_alive(self) -> None:
        if self._connection is not None:
            keep_alive(self._connection)

    # For the pulse.

    def is_stuck(self, limit: float) -> bool:
        silence = silence_of(self._connection) if self._connection is not None else None
        return silence is not None and silence.unacknowledged and silence.seconds >= limit

    def heard_since(self, moment: float) -> bool:
        elapsed = asyncio.get_running_loop().time() - moment
        silence = silence_of(self._connection) if self._connection is not None else None
        if silence is not None and silence.seconds >= elapsed:
            return False
        return not self._listening or self._heard >= moment

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(PING_LIMIT):
                await self._websocket.ping()
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            log.debug("a stream takes no ping: %s", error)

    def fail(self, why: str) -> None:
        if self._failure or self._connection is None:
            return
        self._failure = why
        log.info("a stream is ended: %s", why)
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self._connection.shutdown(socket.SHUT_RDWR)

    # For whoever carries.

    async def await_announcements(self, port: int) -> None:
        """Take the opening frames of both channels."""
        for channel in (_DATA, _ERROR):
            message = await self._next()
            if message.type is not WSMsgType.BINARY or message.data != bytes([channel]) + port.to_bytes(2, "little"):
                raise TransportError("port-forward", f"the API server did not announce port {port}")

    async def await_acceptance(self, grace: float) -> None:
        """Wait ``grace`` seconds for bad news; ConnectionRefusedError or TransportError when it comes."""
        if not grace:
            return
        self._pending = asyncio.create_task(self._receive())
        done, _ = await asyncio.wait([self._pending], timeout=grace)
        if not done:
            return
        error = self._pending.exception()
        if isinstance(error, _PodError):
            if "refused" in str(error):
                raise ConnectionRefusedError(str(error)) from error
            raise TransportError("port-forward", str(error)) from error
        if error is not None:
            raise TransportError("port-forward", str(error)) from error

    async def receive(self) -> bytes:
        if self._pending is not None:
            data = await asyncio.shield(self._pending)
            self._pending = None
            return data
        return await self._receive()

    async def send(self, data: bytes) -> None:
        try:
            await self._websocket.send_bytes(b"\0" + data)
        except (aiohttp.ClientError, ConnectionError) as error:
            self.is_broken = True
            raise StreamBrokenError(str(error)) from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._websocket.close()
        except TimeoutError:
            log.debug("the API server did not confirm the end of a stream")
        finally:
            self._on_end(self)

    async def _receive(self) -> bytes:
        while True:
            message = await self._next()
            if message.type is WSMsgType.BINARY:
                frame: bytes = message.data
                if frame[:1] == b"\0" and len(frame) > 1:
                    if not self._answered:
                        self._answered = True
                        self._on_word(True)
                    return frame[1:]
                if frame[:1] == b"\1" and len(frame) > 1:
                    self._on_word(False)
                    raise _PodError(one_line(frame[1:].decode(errors="replace")))
            elif message.type is WSMsgType.CLOSE and message.data in (WSCloseCode.OK, 0, None):
                return b""
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                self.is_broken = True
                raise StreamBrokenError(self._failure or "the websocket ended without a close frame")

    async def _next(self) -> WSMessage:
        """The next message that is no ping or pong."""
        while True:
            self._listening = True
            try:
                message = await self._websocket.receive()
            finally:
                self._listening = False
            self._heard = asyncio.get_running_loop().time()
            if message.type is WSMsgType.PING:
                await self._answer(message.data)
            elif message.type is not WSMsgType.PONG:
                return message

    async def _answer(self, ping: bytes) -> None:
        try:
            await self._websocket.pong(ping)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise StreamBrokenError(str(error)) from error


class _PodError(StreamBrokenError):
    """What the kubelet said on the error channel."""
