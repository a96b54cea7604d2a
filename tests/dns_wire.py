"""Messages by hand: queries as hostile as can be, and a reader of replies that takes nothing on trust."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from dns_cluster import CONFIG, OBJECTS, SERIAL, endpoint, name_of, port, put, service, slice_of

from resolverd.cluster.objects import ClusterObject
from resolverd.dns.outward import Outward
from resolverd.dns.records import Name, Rcode, Type
from resolverd.dns.responder import Reply as Leaving
from resolverd.dns.responder import Responder

HEADER = struct.Struct("!HHHHHH")
RD, AD, CD = 0x0100, 0x0020, 0x0010
WEB = "web.shop.svc.cluster.local"
NOPE = "nope.shop.svc.cluster.local"
COOKIE = struct.pack("!HH8s", 10, 8, b"8 octets")
MANY = 2000
"""Endpoints that no UDP reply holds."""


def wire(name: Name) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in name) + b"\0"


def opt(size: int = 1232, *, version: int = 0, flags: int = 0, options: bytes = b"") -> bytes:
    return b"\0" + struct.pack("!HHBBHH", Type.OPT, size, 0, version, flags, len(options)) + options


def question(name: str | bytes, kind: int = 1, klass: int = 1) -> bytes:
    return (wire(name_of(name)) if isinstance(name, str) else name) + struct.pack("!HH", kind, klass)


def query(
    name: str | bytes, kind: int = 1, edns: bytes = b"", *, flags: int = RD, number: int = 4711, klass: int = 1
) -> bytes:
    """A query with one question, and ``edns`` as its additional section."""
    return HEADER.pack(number, flags, 1, 0, 0, bool(edns)) + question(name, kind, klass) + edns


@dataclass(frozen=True)
class Row:
    """One record of a reply."""

    owner: Name
    type: int
    klass: int
    ttl: int
    data: object


@dataclass(frozen=True)
class Reply:
    """A reply, read to its last octet."""

    number: int
    flags: int
    question: bytes
    answer: list[Row]
    authority: list[Row]
    additional: list[Row]
    opt: Row | None
    size: int

    @property
    def rcode(self) -> int:
        return (self.opt.ttl >> 24 << 4 if self.opt else 0) | self.flags & 0xF

    @property
    def is_cut(self) -> bool:
        return bool(self.flags & 0x0200)

    @property
    def is_authoritative(self) -> bool:
        return bool(self.flags & 0x0400)

    @property
    def has_records(self) -> bool:
        return bool(self.answer or self.authority or self.additional)


def read(data: bytes) -> Reply:
    """AssertionError unless ``data`` is a well-formed reply: counts, names, lengths, one OPT, QR=1, Z=0."""
    number, flags, questions, *counts = HEADER.unpack_from(data)
    assert flags & 0x8000, "QR"
    assert not flags & 0x0040, "Z"
    assert not flags & AD, "AD"
    assert questions <= 1
    offset = HEADER.size
    if questions:
        _, offset = _name(data, offset)
        offset += 4
    asked = data[HEADER.size : offset]
    sections: list[list[Row]] = []
    for count in counts:
        rows = []
        for _ in range(count):
            row, offset = _row(data, offset)
            rows.append(row)
        sections.append(rows)
    assert offset == len(data), "octets after the reply"
    opts = [row for section in sections for row in section if row.type == Type.OPT]
    assert len(opts) <= 1
    answer, authority, additional = sections
    plain = [row for row in additional if row not in opts]
    return Reply(number, flags, asked, answer, authority, plain, opts[0] if opts else None, len(data))


def _row(data: bytes, offset: int) -> tuple[Row, int]:
    owner, offset = _name(data, offset)
    kind, klass, ttl, length = struct.unpack_from("!HHIH", data, offset)
    offset += 10
    end = offset + length
    assert end <= len(data), "data past the end"
    if kind == Type.OPT:
        assert owner == ()
        assert ttl >> 16 & 0xFF == 0, "OPT version"
        assert not ttl & 0x7FFF, "reserved EDNS flags"
        assert klass >= 512
    return Row(owner, kind, klass, ttl, _data(data, offset, end, kind)), end


def _data(data: bytes, offset: int, end: int, kind: int) -> object:
    body = data[offset:end]
    if kind == Type.A:
        return IPv4Address(body)
    if kind == Type.AAAA:
        return IPv6Address(body)
    if kind in (Type.CNAME, Type.PTR, Type.NS):
        name, after = _name(data, offset)
        assert after == end
        return name
    if kind == Type.SRV:
        name, after = _name(data, offset + 6)
        assert after == end
        assert wire(name) == data[offset + 6 : end], "SRV targets are not compressed"
        return (*struct.unpack_from("!HHH", data, offset), name)
    if kind == Type.SOA:
        mname, after = _name(data, offset)
        rname, after = _name(data, after)
        assert after + 20 == end
        return (mname, rname, *struct.unpack_from("!IIIII", data, after))
    return body


def _name(data: bytes, offset: int) -> tuple[Name, int]:
    labels, after, lowest = [], 0, offset
    while data[offset]:
        if data[offset] >= 0xC0:
            target = struct.unpack_from("!H", data, offset)[0] & 0x3FFF
            assert 12 <= target < lowest, "a pointer that does not lead back"
            after = after or offset + 2
            offset = lowest = target
        else:
            assert data[offset] <= 63
            labels.append(data[offset + 1 : offset + 1 + data[offset]])
            offset += 1 + data[offset]
    assert sum(map(len, labels)) + len(labels) + 1 <= 255
    return tuple(labels), after or offset + 1


def code(reply: bytes | None) -> str:
    """The response code of a reply, or ``silence``."""
    return "silence" if reply is None else Rcode(read(reply).rcode).name


def crowd(size: int) -> list[ClusterObject]:
    """A headless service with ``size`` endpoints."""
    found = [endpoint(f"10.244.{n // 250 + 1}.{n % 250 + 1}", hostname=f"pod-{n}") for n in range(size)]
    ports = [port("pg", 5432)]
    return [service(f"crowd{size}", clusterIP="None", ports=ports), slice_of(f"crowd{size}", found, ports)]


def responder(*, objects: Sequence[ClusterObject] = OBJECTS, memo: int = 1000) -> Responder:
    """One that knows ``objects`` and three crowds."""
    made = Responder(CONFIG, memo)
    made.fold(tuple(map(put, [*objects, *crowd(20), *crowd(60), *crowd(MANY)])), synced=True, serial=SERIAL)
    return made


HERE = responder()


def send(data: bytes, *, tcp: bool = False, to: Responder = HERE) -> bytes | None:
    reply = to.respond(data, tcp=tcp, now=0.0)
    if isinstance(reply, Outward):
        reply = to.complete(reply, None)
    return reply.wire if isinstance(reply, Leaving) else reply


def told(data: bytes, *, tcp: bool = False, to: Responder = HERE) -> bytes:
    """The reply, by the shortest way there is: a message that came before is answered by its octets."""
    reply = None if tcp else to.again(data, -1.0)
    reply = reply or send(data, tcp=tcp, to=to)
    assert reply is not None
    return reply
