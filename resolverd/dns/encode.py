"""Answers on the wire: prepared once without what differs from client to client, completed for each reply.

What differs is the header's id and copied flags, and the question, which is echoed octet for octet. Everything
behind the question points into it and so is the same for each spelling of a name. Two things change while
nothing else does, and are left open: the serial of the SOA, and which of several addresses comes first.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from resolverd.names import Address

from .answer import Answer, ExtendedError
from .message import AA, DO, HEADER_SIZE, TC, Edns
from .records import CLASS_IN, Name, Rcode, Record, Soa, Srv, Type, fold_name, wire_length
from .tally import Tally

EDNS_SIZE = 1232
"""Octets over UDP that we take and at most send: no fragments on any path (DNS flag day 2020)."""
MAX_MESSAGE = 65535

_RECORD = struct.Struct("!HHIH")
_TTL = struct.Struct("!I")
_SRV = struct.Struct("!HHH")
_SOA = struct.Struct("!IIIII")
_OPT = struct.Struct("!BHHBBHH")
_EDE = struct.Struct("!HHH")
_EDE_OPTION = 15
_SERIAL_SIZE = 4
_MAX_POINTER = 0x3FFF
_COUNTED_DOWN = 120
"""Octets of memory that a time to live takes, roughly."""


@dataclass(frozen=True, slots=True)
class Countdown:
    """Times to live that pass, since others said so (RFC 1035 3.2.1); every time here is the loop's, in seconds."""

    since: float
    """When they were said."""
    lifetime: int
    """Seconds after which the reply is not repeated."""
    ttls: tuple[tuple[int, int], ...] | None
    """Where in ``Prepared.before`` each is, and its seconds at first; None: not known, so it is for one second."""


@dataclass(slots=True)
class Prepared:
    """A reply without header and question: ``before`` + what is left open + ``after``."""

    flags: int
    """Rcode, AA and TC."""
    rcode: Rcode
    counts: bytes
    """The four counts of the header."""
    before: bytes
    after: bytes = b""
    has_serial: bool = False
    """Left open is the SOA's serial."""
    block: bytes = b""
    """Left open is this: address records of ``step`` octets each, to be turned round."""
    step: int = 0
    addresses: tuple[Address, ...] = ()
    """Those that a client may connect to after this reply."""
    fresh_until: float = 0.0
    """Monotonic time until which ``addresses`` are known to be routed: for ever, when there are none."""
    tally: Tally | None = None
    """What it counts under; whoever sends it sets it before."""
    countdown: Countdown | None = None
    """Of what others said; what is our own has the same times to live at any time."""
    age: int = 0
    """Seconds of the countdown that have passed in ``before``."""

    @property
    def octets(self) -> int:
        """Octets behind the question, without the serial."""
        return len(self.before) + len(self.block) + len(self.after)

    @property
    def weight(self) -> int:
        """Octets of memory that keeping it takes, roughly; always the same."""
        ttls = self.countdown.ttls if self.countdown else None
        return self.octets + _COUNTED_DOWN * len(ttls or ())

    def size(self, question: bytes) -> int:
        """Octets of the whole reply to ``question``."""
        return HEADER_SIZE + len(question) + self.octets + (_SERIAL_SIZE if self.has_serial else 0)

    def count_down(self, now: float) -> bool:
        """Make the times to live those of ``now``; False when it is too late for that."""
        countdown = self.countdown
        if countdown is None:
            return True
        age = max(int(now - countdown.since), 0)
        if age == self.age:
            return True
        if age >= countdown.lifetime or countdown.ttls is None:
            return False
        before = bytearray(self.before)
        for place, ttl in countdown.ttls:
            _TTL.pack_into(before, place, max(ttl - age, 0))
        self.before, self.age = bytes(before), age
        return True

    def tail(self, turn: int, serial: bytes) -> bytes:
        """Everything behind the question. ``turn`` says how far the addresses are turned."""
        if self.step:
            cut = turn * self.step % len(self.block)
            return b"".join((self.before, self.block[cut:], self.block[:cut], self.after))
        return b"".join((self.before, serial, self.after)) if self.has_serial else self.before


@dataclass(slots=True)
class _Writer:
    """The part of a message behind its question."""

    base: int
    """Offset in the message at which the part begins."""
    limit: int
    """Octets that the part may have."""
    names: dict[Name, int]
    """Offsets of names that may be pointed at."""
    data: bytearray = field(default_factory=bytearray)
    serial_at: int = -1
    address_starts: list[int] = field(default_factory=list)
    """Where address records begin."""
    is_whole: bool = True
    """False once something did not fit."""

    def add(self, record: Record) -> bool:
        """Append ``record``; False, and nothing appended, when there is no room for it. That record was the last."""
        start = len(self.data)
        self._name(record.owner)
        self.data += _RECORD.pack(record.type, CLASS_IN, record.ttl, 0)
        body = len(self.data)
        self._body(record)
        if len(self.data) > self.limit:
            del self.data[start:]
            self.is_whole = False
            return False
        if isinstance(record.data, Address):
            self.address_starts.append(start)
        struct.pack_into("!H", self.data, body - 2, len(self.data) - body)
        return True

    def _body(self, record: Record) -> None:
        match record.data:
            case tuple():
                self._name(record.data)
            case Srv(priority, weight, port, target):
                self.data += _SRV.pack(priority, weight, port)
                self._name(target, compress=False)  # RFC 2782
            case Soa():
                soa = record.data
                self._name(soa.mname)
                self._name(soa.rname)
                self.serial_at = len(self.data)
                self.data += _SOA.pack(soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum)
            case str():
                text = record.data.encode()
                self.data += bytes((len(text),)) + text
            case _:
                self.data += record.data.packed

    def _name(self, name: Name, *, compress: bool = True) -> None:
        for place in range(len(name)):
            rest = name[place:]
            known = self.names.get(rest)
            if known is not None and compress:
                self.data += struct.pack("!H", 0xC000 | known)
                return
            here = self.base + len(self.data)
            if known is None and here <= _MAX_POINTER:
                self.names[rest] = here
            self.data.append(len(name[place]))
            self.data += name[place]
        self.data.append(0)


def prepare(name: Name, answer: Answer, edns: Edns | None, limit: int) -> Prepared:
    """Everything of the reply to a question for ``name`` that is the same for every client.

    ``limit`` is the size of the whole message in octets; what does not fit is left out, in whole records, and TC
    says so. The OPT record always fits.
    """
    opt = opt_record(answer.rcode, edns, answer.error) if edns else b""
    base = HEADER_SIZE + wire_length(name) + 4
    writer = _Writer(base, limit - base - len(opt), _suffixes(fold_name(name)))
    counts: list[int] = []
    for section in (answer.answer, answer.authority, answer.additional):
        fitting = takewhile(writer.add, section) if writer.is_whole else ()
        counts.append(sum(1 for _ in fitting))
    flags = (answer.rcode & 0xF) | (AA if answer.authoritative else 0) | (0 if writer.is_whole else TC)
    packed = struct.pack("!HHHH", 1, counts[0], counts[1], counts[2] + bool(opt))
    prepared = Prepared(flags, answer.rcode, packed, bytes(writer.data) + opt)
    prepared.addresses = _connectable(answer, counts)
    if not prepared.addresses:
        prepared.fresh_until = math.inf
    if writer.serial_at >= 0:
        _open(prepared, writer.serial_at, writer.serial_at + _SERIAL_SIZE)
        prepared.has_serial = True
    elif counts[2] == 0 and _are_alike(answer, writer.address_starts, len(writer.data)):
        _leave_block(prepared, writer.address_starts, len(writer.data))
    return prepared


def _suffixes(folded: Name) -> dict[Name, int]:
    """Where in the question each suffix of its name begins."""
    found, offset = {}, HEADER_SIZE
    for place, label in enumerate(folded):
        found[folded[place:]] = offset
        offset += 1 + len(label)
    return found


def _are_alike(answer: Answer, starts: list[int], end: int) -> bool:
    """Whether the address records come last, of one owner and one size. What an alias leads to is as others say it."""
    if len(starts) < 2 or len({record.owner for record in answer.answer if isinstance(record.data, Address)}) > 1:
        return False
    step = starts[1] - starts[0]
    return all(after - before == step for before, after in pairwise((*starts, end)))


def _leave_block(prepared: Prepared, starts: list[int], end: int) -> None:
    """Leave the address records of the answer open."""
    prepared.block, prepared.step = prepared.before[starts[0] : end], starts[1] - starts[0]
    _open(prepared, starts[0], end)


def _open(prepared: Prepared, start: int, end: int) -> None:
    prepared.before, prepared.after = prepared.before[:start], prepared.before[end:]


def _connectable(answer: Answer, counts: list[int]) -> tuple[Address, ...]:
    """Addresses in the answer section, and those of SRV targets."""
    shown = list(answer.answer[: counts[0]])
    if any(record.type == Type.SRV for record in shown):
        shown += answer.additional[: counts[2]]
    return tuple(dict.fromkeys(record.data for record in shown if isinstance(record.data, Address)))


def opt_record(rcode: Rcode, edns: Edns, error: ExtendedError | None = None) -> bytes:
    """Our OPT record (RFC 6891): version 0, DO as the client sent it, and why (RFC 8914)."""
    option = b""
    if error is not None:
        text = error.text.encode()
        option = _EDE.pack(_EDE_OPTION, 2 + len(text), error.code) + text
    flags = DO if edns.do else 0
    return _OPT.pack(0, Type.OPT, EDNS_SIZE, rcode >> 4, 0, flags, len(option)) + option
