"""A websocket as a client has it, once the handshake is done: payload in and out, without a queue on either way.

What arrives is parsed where it was received and handed on at once; what is sent goes to the transport, which tells when
it has enough. Control frames are answered here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from typing import Protocol

from aiohttp import WSCloseCode
from aiohttp._websocket.helpers import websocket_mask

from .handshake import Upgraded
from .kernel_silence import Silence, keep_alive, silence_of
from .websocket_frames import FrameError, FrameReader, Opcode, close_code, head

log = logging.getLogger(__name__)

RECEIVE = 2**19
"""Octets received at once."""
ENOUGH = 2**19
"""Octets that wait to be sent from which on whoever sends is to wait."""
CLOSE_LIMIT = 1.0
"""Seconds for the other side to confirm the end."""
_SMALL = 2**14
"""Octets of a message that is better copied than sent apart from its header: of a record of TLS."""
_ORDERLY = (0, WSCloseCode.OK)


class Receiver(Protocol):
    """Whoever takes what arrives."""

    def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
        """Take a piece of a message, its first or last one or neither. It is valid until :meth:`fed` returns.

        FrameError when it means nothing: the websocket is given up.
        """
        ...

    def fed(self) -> None:
        """That was all for now."""
        ...

    def ended(self, why: str) -> None:
        """Nothing more will come: in order when ``why`` is empty. Called once."""
        ...


class WebSocket(asyncio.BufferedProtocol):
    """One websocket on a transport that somebody else has connected."""

    _buffer = memoryview(bytearray(RECEIVE))
    """Of all of them: nothing stays in it when :meth:`buffer_updated` returns."""

    def __init__(self, upgraded: Upgraded) -> None:
        self._upgraded = upgraded
        self._transport = transport = upgraded.transport
        self._before = transport.get_protocol()
        """Who had the transport, and is to learn of its end, too."""
        self._frames = FrameReader()
        self._receiver: Receiver | None = None
        self._end: str | None = None
        self._failure = ""
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._gone = asyncio.Event()
        self._is_closing = False
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self.heard = asyncio.get_running_loop().time()
        """When something arrived, by the loop's clock."""
        self.is_reading = True

    def start(self, receiver: Receiver) -> None:
        """Take over the transport for ``receiver``."""
        self._receiver = receiver
        self._transport.set_write_buffer_limits(ENOUGH)
        self._transport.set_protocol(self)
        if self._socket is not None:
            keep_alive(self._socket)
        if self._upgraded.first:
            self._take(memoryview(self._upgraded.first))

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._take(self._buffer[:nbytes])

    def eof_received(self) -> None:
        self._ended("the websocket ended without a close frame")

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._may_send.set()
        self._before.connection_lost(exc)
        self._upgraded.let_go()
        self._ended(str(exc) if exc else "the websocket ended without a close frame")

    def pause_writing(self) -> None:
        self._may_send.clear()

    def resume_writing(self) -> None:
        self._may_send.set()

    # What comes.

    def _take(self, octets: memoryview) -> None:
        self.heard = asyncio.get_running_loop().time()
        receiver = self._receiver
        if self._end is not None or receiver is None:
            return
        try:
            for opcode, data, starts, ends in self._frames.feed(octets):
                if isinstance(data, memoryview):
                    receiver.feed(data, starts, ends)
                else:
                    self._control(opcode, data)
                    if self._end is not None:
                        return
        except FrameError as error:
            self._give_up(str(error))
        except Exception:
            self._give_up("an internal error")  # what was received is lost when this returns
            raise
        else:
            receiver.fed()

    def _control(self, opcode: Opcode, data: bytes) -> None:
        if opcode is Opcode.PING:
            if not self.is_full:  # RFC 6455, 5.5.3: whoever sends many need not be answered each
                self._write(Opcode.PONG, data)
        elif opcode is Opcode.CLOSE:
            code = close_code(data)
            if not self._is_closing:
                self._is_closing = True
                self._write(Opcode.CLOSE, data[:2])
            self._ended("" if code in _ORDERLY else f"the websocket was closed with {code}")
            self._transport.close()  # last: with TLS it reads on, into the buffer that was just read

    def _ended(self, why: str) -> None:
        if self._end is None:
            self._end = self._failure or why
            if self._receiver is not None:
                self._receiver.fed()
                self._receiver.ended(self._end)

    def _give_up(self, why: str) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._write(Opcode.CLOSE, WSCloseCode.PROTOCOL_ERROR.to_bytes(2, "big"))
        self._ended(why)
        self._transport.close()

    # What goes.

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._end is None and not self._is_closing and not self._transport.is_closing()

    @property
    def is_full(self) -> bool:
        """Whether whoever sends is to wait."""
        return not self._may_send.is_set()

    def send(self, data: bytearray) -> None:
        """Send a message; ``data`` is spoilt. Wait for :meth:`writable` before the next one."""
        mask = random.getrandbits(32).to_bytes(4, "big")  # as aiohttp does
        size = len(data)
        websocket_mask(mask, data)
        if size <= _SMALL:
            self._transport.write(head(Opcode.BINARY, size, mask) + data)
        else:
            self._transport.writelines((head(Opcode.BINARY, size, mask), data))

    async def writable(self) -> None:
        """Until there is room for a message, or it has ended."""
        await self._may_send.wait()

    def ping(self) -> None:
        self._write(Opcode.PING, b"")

    def pause(self) -> None:
        """Let nothing more come."""
        if self.is_reading:
            self.is_reading = False
            with contextlib.suppress(RuntimeError):  # it is closing
                self._transport.pause_reading()

    def resume(self) -> None:
        if not self.is_reading:
            self.is_reading = True
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    def _write(self, opcode: Opcode, data: bytes) -> None:
        if self._transport.is_closing():
            return
        mask = random.getrandbits(32).to_bytes(4, "big")
        masked = bytearray(data)
        websocket_mask(mask, masked)
        self._transport.write(head(opcode, len(data), mask) + masked)

    # How it ends.

    async def close(self) -> None:
        """Say goodbye and wait a moment for the answer."""
        self._receiver = None
        if not self._is_closing:
            self._is_closing = True
            self._write(Opcode.CLOSE, WSCloseCode.OK.to_bytes(2, "big"))
        self.resume()
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._gone.wait()
        except TimeoutError:
            log.debug("the API server did not confirm the end of a websocket")
        finally:
            self._transport.abort()

    def abort(self) -> None:
        """End it now, without a word."""
        self._receiver = None
        self._transport.abort()

    def fail(self, why: str) -> None:
        """End it as broken."""
        if not self._failure and self._socket is not None:
            self._failure = why
            log.info("a stream is ended: %s", why)
            with contextlib.suppress(OSError):  # it has ended meanwhile
                self._socket.shutdown(socket.SHUT_RDWR)

    def silence(self) -> Silence | None:
        """What the kernel knows; None when that is nothing."""
        return silence_of(self._socket) if self._socket is not None else None
