"""Replies of other servers: checked against their question, stripped of what was meant for us alone, handed on.

Records stay octets. Ours has the same question in the same place, so every compression pointer stays right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from resolverd.names import Address

from .answer import ExtendedError
from .encode import Countdown, Prepared, opt_record
from .message import HEADER, HEADER_SIZE, QR, RA, TC, Edns, MalformedMessageError, skip_name
from .records import CLASS_IN, Name, Rcode, Record, Type

MAX_TTL = 86400
"""Seconds that anything is kept."""
MAX_NEGATIVE_TTL = 1800
"""Seconds that a denial is kept (RFC 2308 5 allows hours)."""
STALE_TTL = 30
"""Seconds, of a record that is past its time (RFC 8767 4)."""

_RECORD = struct.Struct("!HHIH")
_SOA_MINIMUM = struct.Struct("!I")
_TTL = struct.Struct("!I")
_TTL_BEFORE_BODY = 6
_FAILURES = (Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED)


@dataclass(frozen=True, slots=True)
class _Row:
    """Where one record of a message is."""

    owner: int
    type: int
    klass: int
    ttl: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """What another server said, without its header and OPT record: good for every client with that question."""

    question: bytes
    rcode: Rcode
    is_cut: bool
    counts: tuple[int, int, int]
    """Records in answer, authority and additional section."""
    data: bytes
    """What is behind the question."""
    rows: tuple[_Row, ...]
    lifetime: int
    """Seconds it may be kept; 0: not at all."""

    @property
    def base(self) -> int:
        """Offset of ``data`` in the message."""
        return HEADER_SIZE + len(self.question)

    @property
    def _message(self) -> bytes:
        """With an empty header: offsets and compression pointers are right in it."""
        return bytes(HEADER_SIZE) + self.question + self.data

    def left(self, ttl: int, age: int) -> int:
        """What ``age`` seconds left of a record's ``ttl``. A denial's SOA lives no longer than the denial."""
        if age >= self.lifetime > 0:
            return STALE_TTL
        longest = self.lifetime if self.lifetime and not self.counts[0] else MAX_TTL
        return max(min(_seconds(ttl), longest) - age, 0)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those in the answer section."""
        return tuple(dict.fromkeys(record.data for record in self.answer_records() if isinstance(record.data, Address)))

    def answer_records(self, age: int = 0) -> Iterator[Record]:
        """The addresses and aliases of the answer section, ``age`` seconds after they came."""
        message = self._message
        for row in self.rows[: self.counts[0]]:
            body, ttl = message[row.body : row.end], self.left(row.ttl, age)
            if row.klass != CLASS_IN:
                continue
            if row.type == Type.A and len(body) == 4:
                yield Record(_name(message, row.owner), Type.A, ttl, IPv4Address(body))
            elif row.type == Type.AAAA and len(body) == 16:
                yield Record(_name(message, row.owner), Type.AAAA, ttl, IPv6Address(body))
            elif row.type == Type.CNAME:
                yield Record(_name(message, row.owner), Type.CNAME, ttl, _name(message, row.body))

    def pointers(self) -> Iterator[Name]:
        """The names that addresses belong to, in the answer section. MalformedMessageError where one is none."""
        message = self._message
        for row in self.rows[: self.counts[0]]:
            if row.klass == CLASS_IN and row.type == Type.PTR and skip_name(message, row.body) == row.end:
                yield _name(message, row.body)


def answers(reply: bytes, query: bytes) -> bool:
    """Whether ``reply`` is one to ``query``: id, question (in any case) and the QR bit.

    A bare header that reports an error has no question to compare.
    """
    if len(reply) < HEADER_SIZE or reply[:2] != query[:2]:
        return False
    _, flags, questions, *counts = HEADER.unpack_from(reply)
    if not flags & QR:
        return False
    if questions == 0:
        return flags & 0xF in _FAILURES and not any(counts) and len(reply) == HEADER_SIZE
    asked = query[HEADER_SIZE : _question_end(query)]
    return questions == 1 and _folded(reply[HEADER_SIZE : HEADER_SIZE + len(asked)]) == _folded(asked)


def read(reply: bytes, query: bytes) -> Foreign:
    """Take apart a reply that :func:`answers` ``query``. MalformedMessageError when it cannot be handed on."""
    _, flags, questions, *counts = HEADER.unpack_from(reply)
    question = query[HEADER_SIZE : _question_end(query)]
    base = offset = HEADER_SIZE + len(question) if questions else HEADER_SIZE
    rows: list[_Row] = []
    kept = [0, 0, 0]
    end, extended = base, 0
    for section, count in enumerate(counts):
        for _ in range(count):
            start = offset
            row = _row(reply, start)
            offset = row.end
            if row.type == Type.OPT:
                extended = row.ttl >> 24
                # What follows an OPT record is additional and can be left out: its pointers would have to move.
                return _made(reply[base:end], question, rows, kept, (flags, extended))
            rows.append(row)
            kept[section] += 1
            end = offset
    return _made(reply[base:end], question, rows, kept, (flags, extended))


def _made(data: bytes, question: bytes, rows: list[_Row], kept: list[int], flags: tuple[int, int]) -> Foreign:
    number = flags[0] & 0xF | flags[1] << 4
    rcode = Rcode(number) if number in (*_FAILURES, Rcode.NOERROR, Rcode.NXDOMAIN) else Rcode.SERVFAIL
    counts = (kept[0], kept[1], kept[2])
    is_cut = bool(flags[0] & TC)
    whole = bytes(HEADER_SIZE) + question + data
    lifetime = 0 if is_cut else _lifetime(rcode, question, rows, counts, whole)
    return Foreign(question, rcode, is_cut, counts, data, tuple(rows), lifetime)


def _lifetime(rcode: Rcode, question: bytes, rows: list[_Row], counts: tuple[int, int, int], message: bytes) -> int:
    """Seconds that a reply may be kept: a denial only with its SOA (RFC 2308 5)."""
    if rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return 0
    shortest = min((_seconds(row.ttl) for row in rows), default=0)
    kind = int.from_bytes(question[-4:-2], "big")
    if rcode == Rcode.NOERROR and any(row.type == kind or kind == Type.ANY for row in rows[: counts[0]]):
        return shortest
    authority = rows[counts[0] : counts[0] + counts[1]]
    minima = [_SOA_MINIMUM.unpack_from(message, row.end - 4)[0] for row in authority if _is_soa(row)]
    return min(shortest, _seconds(minima[0]), MAX_NEGATIVE_TTL) if minima else 0


def _is_soa(row: _Row) -> bool:
    return row.type == Type.SOA and row.end - row.body >= 2 + 20


def _seconds(ttl: int) -> int:
    """A TTL with its highest bit set is none (RFC 2181 8)."""
    return min(ttl, MAX_TTL) if ttl < 1 << 31 else 0


def prepare_foreign(
    reply: Foreign,
    edns: Edns | None,
    limit: int,
    *,
    age: int,
    error: ExtendedError | None = None,
    since: float | None = None,
) -> Prepared:
    """``reply`` for a client, ``age`` seconds after it came; what does not fit into ``limit`` octets is cut off.

    Records past their time have ``STALE_TTL``. With ``since``, when it came by the loop's clock, it may be repeated.
    """
    opt = opt_record(reply.rcode, edns, error) if edns else b""
    data = bytearray(reply.data)
    counts, is_cut = reply.counts, reply.is_cut
    ttls = [(row.body - _TTL_BEFORE_BODY - reply.base, row.ttl) for row in reply.rows]
    if reply.base + len(data) + len(opt) > limit:
        data, counts, is_cut, ttls = bytearray(), (0, 0, 0), True, []
    for place, ttl in ttls:
        _TTL.pack_into(data, place, reply.left(ttl, age))
    flags = RA | reply.rcode & 0xF | (TC if is_cut else 0)
    packed = struct.pack("!HHHH", 1, counts[0], counts[1], counts[2] + bool(opt))
    prepared = Prepared(flags, reply.rcode, packed, bytes(data) + opt, age=age)
    if since is not None:
        prepared.countdown = Countdown(since, reply.lifetime, tuple((place, reply.left(ttl, 0)) for place, ttl in ttls))
    return prepared


def _row(message: bytes, offset: int) -> _Row:
    after = skip_name(message, offset)
    body = after + _RECORD.size
    if body > len(message):
        raise MalformedMessageError("a record is cut off")
    kind, klass, ttl, length = _RECORD.unpack_from(message, after)
    if body + length > len(message):
        raise MalformedMessageError("a record's data is cut off")
    if kind == Type.CNAME and skip_name(message, body) != body + length:
        raise MalformedMessageError("an alias that is no name")
    return _Row(offset, kind, klass, ttl, body, body + length)


def _name(message: bytes, offset: int) -> Name:
    """A name that :func:`skip_name` has passed."""
    labels: list[bytes] = []
    while octet := message[offset]:
        if octet >= 0xC0:
            offset = (octet & 0x3F) << 8 | message[offset + 1]
        else:
            labels.append(message[offset + 1 : offset + 1 + octet])
            offset += 1 + octet
    return tuple(labels)


def _question_end(query: bytes) -> int:
    """The offset behind the question of a query of our own making."""
    return skip_name(query, HEADER_SIZE) + 4


def _folded(question: bytes) -> bytes:
    return question[:-4].lower() + question[-4:]
