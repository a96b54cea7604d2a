"""Netlink itself: requests and answers, whatever they are about (RFC 3549, netlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence

ACK = 4
"""Flag of a request that is to be acknowledged."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_RECEIVE = 1 << 16
"""Octets; the kernel makes its messages no longer than 32 KiB."""

Answer = bytes | OSError | None
"""A body, an error, or None for a bare acknowledgement."""


class NetlinkSocket:
    """A conversation with the kernel of the network namespace in which it was begun; one request at a time."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        # Acknowledge with the header only, so that those of a batch fit the receive buffer.
        self._socket.setsockopt(270, 10, 1)  # SOL_NETLINK, NETLINK_CAP_ACK
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def exchange(self, kind: int, flags: int, bodies: Sequence[bytes]) -> list[Answer]:
        """Send requests of one kind together; the answer to each. OSError when the conversation itself fails."""
        first = self._sequence + 1
        self._sequence += len(bodies)
        self._socket.send(b"".join(_message(kind, flags, first + n, body) for n, body in enumerate(bodies)))
        answers: dict[int, Answer] = {}
        while len(answers) < len(bodies):
            for answered, _, number, body in messages(self._socket.recv(_RECEIVE)):
                if number >= first:
                    answers[number] = _outcome(body) if answered == _ERROR else body
        return [answers[first + n] for n in range(len(bodies))]

    def dump(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        """All there is of one kind, and whether nothing changed meanwhile. OSError."""
        self._sequence += 1
        self._socket.send(_message(kind, _DUMP, self._sequence, body))
        found: list[bytes] = []
        whole = True
        while True:
            for answered, flags, number, part in messages(self._socket.recv(_RECEIVE)):
                if number != self._sequence:
                    continue
                whole = whole and not flags & _INTERRUPTED
                if answered == _DONE:
                    return found, whole
                if answered == _ERROR and (error := _outcome(part)) is not None:
                    raise error
                found.append(part)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute in ``data``."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[4:length]
        data = data[max(4, (length + 3) & ~3) :]


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, number and body of each message in ``data``."""
    while len(data) >= _HEADER.size:
        length, kind, flags, number, _ = _HEADER.unpack_from(data)
        yield kind, flags, number, data[_HEADER.size : length]
        data = data[max(_HEADER.size, (length + 3) & ~3) :]


def _outcome(body: bytes) -> OSError | None:
    code = -struct.unpack_from("=i", body)[0]
    return OSError(code, os.strerror(code)) if code else None


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, number, 0) + body
