"""Frames of SPDY/3 (draft-mbelshe-httpbis-spdy-00, section 2), as far as port-forward needs them. Pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

FIN = 0x01
"""Flag: the sender sends nothing more on this stream."""
LARGEST_BLOCK = 64 * 2**10
"""Octets of headers in one frame, unpacked; far more than a client of Kubernetes sends."""
_CONTROL = 0x8000_0000
_VERSION = 3
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    " authorization cache-control connection content-base content-encoding content-language content-length"
    " content-location content-md5 content-range content-type date etag expect expires from host if-match"
    " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative"
    " Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500"
    " Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec"
    " 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)


def _sized(words: list[str]) -> bytes:
    return b"".join(struct.pack(">I", len(word)) + word for word in map(str.encode, words))


_MORE = ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
DICTIONARY = _sized([*_WORDS.split(), *_MORE]) + _TAIL.encode()
"""What both ends' zlib knows beforehand (section 2.6.10.1)."""


class Kind(IntEnum):
    """Frames that mean something here. DATA has no number in the protocol; the others have these."""

    DATA = 0
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class SpdyError(Exception):
    """What came is not SPDY/3."""


class Frame(NamedTuple):
    """One frame, or a piece of its data. ``number`` is the stream's, or the ping's; 0 where there is neither."""

    kind: Kind
    number: int = 0
    is_last: bool = False
    data: bytes | memoryview = b""
    headers: Mapping[str, str] = MappingProxyType({})


class Decoder:
    """From octets, in any pieces, to frames. Headers of all frames share one zlib stream, in their order."""

    def __init__(self) -> None:
        self._head = bytearray()
        """Of a frame that has begun; of a control frame with its body."""
        self._left = 0
        """Octets of data that are still to come in this frame."""
        self._number = 0
        self._is_last = False
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, octets: bytes | memoryview) -> Iterator[Frame]:
        """The frames in ``octets``: data as it comes, in views, others whole; unknown kinds are passed over. SpdyError.

        The last piece of a frame of data has its ``is_last``.
        """
        view = memoryview(octets)
        place, end = 0, len(view)
        while place < end:
            if self._left:
                size = min(self._left, end - place)
                self._left -= size
                piece = view[place : place + size]
                place += size
                yield Frame(Kind.DATA, self._number, self._is_last and not self._left, piece)
                continue
            size = min(self._wanted() - len(self._head), end - place)
            self._head += view[place : place + size]
            place += size
            if len(self._head) == self._wanted() and (found := self._take()) is not None:
                yield found

    def _wanted(self) -> int:
        """How long what has begun is to become, as far as can be said yet."""
        if len(self._head) < 8 or not self._head[0] & 0x80:
            return 8
        size = 8 + int.from_bytes(self._head[5:8])
        if size > LARGEST_BLOCK:
            raise SpdyError(f"a control frame of {size} octets")
        return size

    def _take(self) -> Frame | None:
        """The frame that is complete; of data only what comes without any."""
        word, rest = struct.unpack_from(">II", self._head)
        body = bytes(self._head[8:])
        self._head.clear()
        flags, length = rest >> 24, rest & 0xFF_FFFF
        if word & _CONTROL:
            return self._control(word, flags, body)
        self._number, self._is_last, self._left = word, bool(flags & FIN), length
        return None if length else Frame(Kind.DATA, word, self._is_last)

    def _control(self, word: int, flags: int, body: bytes) -> Frame | None:
        if (word >> 16) & 0x7FFF != _VERSION:
            raise SpdyError(f"a control frame of version {(word >> 16) & 0x7FFF}")
        try:
            kind = Kind(word & 0xFFFF)
        except ValueError:
            return None
        if kind in (Kind.SETTINGS, Kind.DATA):
            return Frame(kind)
        if len(body) < 4:
            raise SpdyError(f"a {kind.name} frame of {len(body)} octets")
        number = int.from_bytes(body[:4]) & (0xFFFF_FFFF if kind is Kind.PING else 0x7FFF_FFFF)
        start = {Kind.SYN_STREAM: 10, Kind.SYN_REPLY: 4, Kind.HEADERS: 4}.get(kind)
        headers = self._headers(body[start:]) if start is not None else {}
        return Frame(kind, number, bool(flags & FIN) and start is not None, headers=headers)

    def _headers(self, packed: bytes) -> dict[str, str]:
        try:
            block = self._zlib.decompress(packed, LARGEST_BLOCK)
            if self._zlib.unconsumed_tail:
                raise SpdyError(f"more than {LARGEST_BLOCK} octets of headers")
            place, found = 4, {}
            for _ in range(struct.unpack_from(">I", block)[0]):
                name, place = _word(block, place)
                found[name], place = _word(block, place)
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"headers that cannot be read: {error}") from error
        return found


def _word(block: bytes, place: int) -> tuple[str, int]:
    size = struct.unpack_from(">I", block, place)[0]
    end = place + 4 + size
    if end > len(block):
        raise SpdyError("headers that end too early")
    return block[place + 4 : end].decode(), end


class Encoder:
    """From frames to octets."""

    def __init__(self) -> None:
        # A window as large as the dictionary needs: 10 KiB for each session, not 256.
        self._zlib = zlib.compressobj(wbits=11, memLevel=1, zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """The octets of ``frame``; of GOAWAY, SETTINGS and WINDOW_UPDATE nothing is to be said here: ValueError."""
        number = struct.pack(">I", frame.number)
        match frame.kind:
            case Kind.DATA:
                return struct.pack(">II", frame.number, frame.is_last << 24 | len(frame.data)) + frame.data
            case Kind.SYN_STREAM:
                body = number + bytes(6) + self._headers(frame.headers)
            case Kind.SYN_REPLY | Kind.HEADERS:
                body = number + self._headers(frame.headers)
            case Kind.RST_STREAM:
                body = number + struct.pack(">I", 5)  # CANCEL
            case Kind.PING:
                body = number
            case _:
                raise ValueError(frame.kind)
        head = _CONTROL | _VERSION << 16 | frame.kind
        return struct.pack(">II", head, frame.is_last << 24 | len(body)) + body

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        block = struct.pack(">I", len(headers)) + _sized([word for pair in headers.items() for word in pair])
        return self._zlib.compress(block) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
