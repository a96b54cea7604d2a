"""Messages from clients: parsed strictly, without trust, in time linear in their length (RFC 1035, RFC 6891).

Written by hand rather than with dnslib, which refuses labels that are no UTF-8, takes two questions and labels of
64 octets, and writes wrong compression pointers beyond 16 KiB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .records import CLASS_IN, MAX_LABEL, MAX_WIRE_NAME, Name, Type, wire_octets

HEADER = struct.Struct("!HHHHHH")
HEADER_SIZE = HEADER.size
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_OPTION = struct.Struct("!HH")

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
"""Bits of the header's flag word."""
OPCODE_SHIFT, OPCODE_MASK = 11, 0xF
DO = 0x8000
"""The one flag of an OPT record that is copied (RFC 3225)."""
PLAIN_LIMIT = 512
"""Octets a client takes over UDP without saying so, and the least it takes when it speaks EDNS."""

_MAX_POINTERS = 126
"""A name has at most 127 labels; more pointers than that are an attack."""


class MalformedMessageError(ValueError):
    """A message that is no message: answered with FORMERR."""


@dataclass(frozen=True, slots=True)
class Edns:
    """What a client says in its OPT record."""

    size: int
    """Octets it takes over UDP, as sent."""
    version: int
    do: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query with exactly one question."""

    name: Name
    """As spelled by the client."""
    type: int
    klass: int
    question: bytes
    """The question section, octet for octet."""
    edns: Edns | None


def question_for(name: Name, kind: int) -> bytes:
    """A question of class IN (RFC 1035 4.1.2)."""
    return wire_octets(name) + _QUESTION.pack(kind, CLASS_IN)


def query_for(name: Name, kind: int) -> bytes:
    """A whole message that asks for it, with recursion. Its id is for the sender to choose."""
    return HEADER.pack(0, RD, 1, 0, 0, 0) + question_for(name, kind)


def parse(data: bytes) -> Query:
    """Parse a whole message, header included. MalformedMessageError says what is wrong with it."""
    questions, *counts = HEADER.unpack_from(data)[2:]
    if questions != 1:
        raise MalformedMessageError(f"{questions} questions")
    name, offset = _read_question_name(data)
    end = offset + _QUESTION.size
    if end > len(data):
        raise MalformedMessageError("the question is cut off")
    kind, klass = _QUESTION.unpack_from(data, offset)
    edns, offset = _read_records(data, end, counts)
    if offset != len(data):
        raise MalformedMessageError("octets after the message")
    return Query(name, kind, klass, data[HEADER_SIZE:end], edns)


def _read_question_name(data: bytes) -> tuple[Name, int]:
    """The name of the question. Nothing stands before it that a pointer could mean."""
    labels: list[bytes] = []
    offset = HEADER_SIZE
    while True:
        length = _octet(data, offset)
        offset += 1
        if length == 0:
            return tuple(labels), offset
        if length > MAX_LABEL:
            raise MalformedMessageError("a pointer or an unknown kind of label in the question")
        labels.append(data[offset : offset + length])
        offset += length
        if offset - HEADER_SIZE >= MAX_WIRE_NAME or offset > len(data):
            raise MalformedMessageError("the question's name is too long")


def skip_name(data: bytes, offset: int) -> int:
    """The offset after a name; its pointers must lead strictly backwards to its end."""
    after, here, length, pointers, lowest = 0, offset, 0, 0, offset
    while octet := _octet(data, here):
        if octet <= MAX_LABEL:
            length += 1 + octet
            here += 1 + octet
        elif octet >= 0xC0:
            target = (octet & 0x3F) << 8 | _octet(data, here + 1)
            after = after or here + 2
            pointers += 1
            if target >= lowest or target < HEADER_SIZE or pointers > _MAX_POINTERS:
                raise MalformedMessageError("a pointer that leads nowhere")
            here = lowest = target
        else:
            raise MalformedMessageError("an unknown kind of label")
        if length >= MAX_WIRE_NAME:
            raise MalformedMessageError("a name is too long")
    return after or here + 1


def _read_records(data: bytes, offset: int, counts: list[int]) -> tuple[Edns | None, int]:
    """Walk over the three sections; the one OPT record, and the offset after the last record."""
    edns = None
    for section, count in enumerate(counts):
        for _ in range(count):
            start = offset
            offset = skip_name(data, offset)
            if offset + _RECORD.size > len(data):
                raise MalformedMessageError("a record is cut off")
            kind, klass, ttl, length = _RECORD.unpack_from(data, offset)
            offset += _RECORD.size
            if offset + length > len(data):
                raise MalformedMessageError("a record's data is cut off")
            if kind == Type.OPT:
                if edns is not None or section != 2 or data[start] != 0:
                    raise MalformedMessageError("a second or misplaced OPT record")
                check_options(data, offset, offset + length)
                edns = Edns(klass, ttl >> 16 & 0xFF, bool(ttl & DO))
            offset += length
    return edns, offset


def check_options(data: bytes, offset: int, end: int) -> None:
    """MalformedMessageError unless EDNS options fill ``offset`` to ``end`` exactly. What they say is not looked at."""
    while offset < end:
        if offset + _OPTION.size > end:
            raise MalformedMessageError("half an EDNS option")
        offset += _OPTION.size + int(_OPTION.unpack_from(data, offset)[1])
    if offset != end:
        raise MalformedMessageError("an EDNS option is cut off")


def _octet(data: bytes, offset: int) -> int:
    if offset >= len(data):
        raise MalformedMessageError("a name is cut off")
    return data[offset]
