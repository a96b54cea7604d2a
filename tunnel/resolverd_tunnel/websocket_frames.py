"""Frames of a websocket (RFC 6455, section 5) as a client reads and writes them. Pure; nothing is kept but headers.

Payload of data frames is handed on as it comes, in pieces of whatever is there: neither a frame nor a message is ever
put together, so its size costs nothing, whoever sends it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

LARGEST_CONTROL = 125
"""Octets of a ping, a pong, or a close."""
_FIN, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class FrameError(Exception):
    """What came is no websocket, or none that a server may send."""


class Piece(NamedTuple):
    """Some payload."""

    opcode: Opcode
    """BINARY, or of a control frame, which is always whole."""
    data: memoryview | bytes
    """Valid until the next call of :meth:`FrameReader.feed`."""
    starts: bool
    """Whether a message begins with it."""
    ends: bool
    """Whether a message ends with it."""


class FrameReader:
    """From octets, in any portions, to payload."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        """Octets of data that are still to come in this frame."""
        self._starts = True
        """Whether the next data begins a message."""
        self._is_continued = False
        """Whether the message goes on in the next data frame."""
        self._is_at_end = False
        """Whether a message has just ended with an empty frame."""

    def feed(self, octets: memoryview) -> Iterator[Piece]:
        """The payload in ``octets``. FrameError: nothing more can be read."""
        place, end = 0, len(octets)
        while place < end:
            if self._left:
                size = min(self._left, end - place)
                self._left -= size
                ends = not (self._left or self._is_continued)
                yield Piece(Opcode.BINARY, octets[place : place + size], self._starts, ends)
                self._starts = False
                place += size
                continue
            if not self._head and end - place >= 10 and octets[place] < Opcode.CLOSE | _FIN:
                place += self._begin_data(*_data_head(octets, place))
            else:
                self._head.append(octets[place])
                place += 1
                if (control := self._take_head()) is not None:
                    yield control
            if self._is_at_end:
                self._is_at_end = False
                yield Piece(Opcode.BINARY, memoryview(b""), starts=False, ends=True)

    def _take_head(self) -> Piece | None:
        """Look whether the header is complete; a control frame counts as one with its payload."""
        head = self._head
        if len(head) < 2:
            return None
        opcode = head[0] & _OPCODE
        if opcode < Opcode.CLOSE:
            if len(head) == _head_size(head[1]):
                self._begin_data(*_data_head(memoryview(bytes(head)), 0))
                head.clear()
            return None
        return self._control(opcode)

    def _control(self, opcode: int) -> Piece | None:
        head = self._head
        if head[0] & _RESERVED or not head[0] & _FIN or head[1] > LARGEST_CONTROL:
            raise FrameError(f"a control frame that begins with {head.hex()}")
        if len(head) < 2 + head[1]:
            return None
        try:
            piece = Piece(Opcode(opcode), bytes(head[2:]), starts=True, ends=True)
        except ValueError:
            raise FrameError(f"a frame of kind {opcode}") from None
        head.clear()
        return piece

    def _begin_data(self, first: int, length: int, size: int) -> int:
        """Take the header of a data frame; its size."""
        opcode = first & _OPCODE
        expected = Opcode.CONTINUATION if self._is_continued else Opcode.BINARY
        if opcode != expected or first & _RESERVED:
            raise FrameError(f"a frame of kind {opcode} where {expected.name} was to come")
        self._starts = self._starts or opcode == Opcode.BINARY
        self._is_continued = not first & _FIN
        self._left = length
        self._is_at_end = not (length or self._is_continued or self._starts)
        return size


def _head_size(second: int) -> int:
    if second & _MASKED:
        raise FrameError("a masked frame from a server")
    return {126: 4, 127: 10}.get(second, 2)


def _data_head(octets: memoryview, place: int) -> tuple[int, int, int]:
    """First octet, length of the payload, size of the header at ``place``."""
    second = octets[place + 1]
    size = _head_size(second)
    if size == 2:
        return octets[place], second, 2
    length: int = struct.unpack_from("!H" if size == 4 else "!Q", octets, place + 2)[0]
    if length >> 63:
        raise FrameError("a frame of more than 2**63 octets")
    return octets[place], length, size


def head(opcode: Opcode, length: int, mask: bytes) -> bytes:
    """The header of an unfragmented frame from a client; ``mask`` has four octets."""
    first = _FIN | opcode
    if length < 126:
        return struct.pack("!BB", first, _MASKED | length) + mask
    if length < 2**16:
        return struct.pack("!BBH", first, _MASKED | 126, length) + mask
    return struct.pack("!BBQ", first, _MASKED | 127, length) + mask


def close_code(data: bytes | memoryview) -> int:
    """What a close frame says; 0 when it says nothing. FrameError."""
    if len(data) == 1:
        raise FrameError("a close frame of one octet")
    return int.from_bytes(data[:2], "big")
