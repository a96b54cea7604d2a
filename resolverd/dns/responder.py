"""From the octets of a message to the octets of its reply; knows no socket.

The common question, one name of class IN with or without a plain OPT record, is looked up by its own octets in
the memo. Everything else is parsed, answered and prepared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from resolverd.cluster.snapshot import Change, Touched, fold

from .answer import NOT_READY, NOT_SUPPORTED, Answer, ExtendedError, answer
from .claims import Elsewhere
from .encode import EDNS_SIZE, MAX_MESSAGE, Prepared, prepare
from .index import RecordIndex
from .memo import MAX_ENTRIES, Memo
from .message import (
    CD,
    DO,
    HEADER,
    HEADER_SIZE,
    OPCODE_MASK,
    OPCODE_SHIFT,
    PLAIN_LIMIT,
    QR,
    RD,
    TC,
    Edns,
    MalformedMessageError,
    Query,
    check_options,
    parse,
)
from .outward import Outcome, Outward, complete, send_outward
from .probes import Probes
from .records import CLASS_IN, Rcode, Type
from .rules import DnsConfig
from .tally import MALFORMED, Tallies, rule_of
from .tally import NOT_READY as NOT_READY_RULE

LOOPED = Answer(
    Rcode.REFUSED, authoritative=False, error=ExtendedError(22, "a question of ours came back"), lasting=False
)
_HEAD = struct.Struct("!HH")
_AD = 0x0020
_OPT_START = b"\0\0\x29"
_OPT_SIZE = 11
_VARIANTS = tuple(bytes((number,)) for number in range(8))
"""What else a reply depends on: 4 TCP, 1 EDNS, 2 DO."""

HEADS = {
    struct.pack("!HHHHH", flags, 1, 0, 0, has_opt): (QR | flags & ~_AD, has_opt)
    for flags in (rd | ad | cd for rd in (0, RD) for ad in (0, _AD) for cd in (0, CD))
    for has_opt in (0, 1)
}
"""Flags and counts of a common query: the flags its reply begins with, and whether an OPT record follows."""


@dataclass(slots=True)
class Reply:
    """A reply that is ready to leave, once its addresses are routed."""

    wire: bytes
    prepared: Prepared


_Common = tuple[int, bytes, bytes, int]
"""A common question found in a message: the flags its reply begins with, its key in the memo, its octets, and how many
octets the reply may have.
"""


class Responder:
    """Answers messages from an index that it owns. One thread only."""

    def __init__(self, config: DnsConfig | None = None, memo_limit: int = MAX_ENTRIES) -> None:
        self.index = RecordIndex()
        self.config = config or DnsConfig()
        self.memo = Memo(memo_limit)
        self.forwarded = Memo(memo_limit)
        """What others said: apart, so that nobody's questions about the world push out our own answers."""
        self.probes = Probes()
        """Questions of ours that must not come back."""
        self.outdated = False
        """Set when a reply that was given is not what it would be now; whoever hears of it resets it."""
        self.tallies = Tallies()
        self._turn = 0
        self._serial = b"\0\0\0\0"

    @property
    def queries(self) -> int:
        """Messages that were replied to."""
        return self.tallies.queries

    @property
    def hits(self) -> int:
        """Replies from the memo."""
        return self.tallies.hits

    @property
    def rcodes(self) -> dict[str, int]:
        """Replies by the names of their codes; those that never occurred are left out."""
        return self.tallies.rcodes

    def configure(self, config: DnsConfig) -> None:
        """Answer by ``config`` from now on."""
        if config != self.config:
            self.config = config
            self.clear()

    def clear(self) -> None:
        """Forget every reply."""
        self.memo.clear()
        self.forwarded.clear()

    def fold(self, changes: tuple[Change, ...], *, synced: bool, serial: int) -> Touched:
        """Take in what changed in the cluster, and forget the replies that it touches."""
        snapshot, touched = fold(self.index.snapshot, changes, synced=synced, serial=serial)
        changed = self.index.update(snapshot, touched)
        if touched.synced:
            self.clear()
            self.outdated = True
        elif self.memo.forget(changed) + self.forwarded.forget(changed):
            self.outdated = True
        self._serial = struct.pack("!I", snapshot.serial & 0xFFFFFFFF if snapshot.synced else 0)
        return touched

    def again(self, data: bytes, now: float) -> bytes | None:
        """The reply to a message that came before over UDP, octet for octet but for its id.

        None where :meth:`respond` has to say. ``now`` is monotonic time: addresses that are no longer known to be
        routed are not repeated.
        """
        message = data[2:]
        spelled = self.memo.spelled.get(message) or self.forwarded.spelled.get(message)
        if spelled is None or spelled.prepared.fresh_until <= now:
            return None
        prepared = spelled.prepared
        if prepared.countdown is not None and not prepared.count_down(now):
            return None
        prepared.tally.again += 1  # type: ignore[union-attr]  # what is kept has been counted once
        self._turn += 1
        return data[:2] + spelled.start + prepared.tail(self._turn, self._serial)

    def respond(self, data: bytes, *, tcp: bool, now: float) -> Reply | Outward | bytes | None:
        """The reply to a message; None where silence is due (a reply to us, or no header).

        Octets are an error without any address in it. What others have to answer is to be completed. ``now`` is
        monotonic time.
        """
        common = _common(data, tcp)
        if common is not None:
            reply = self._repeat(data, common, tcp, now)
            if reply is not None:
                return reply
        if len(data) < HEADER_SIZE:
            return None
        flags = HEADER.unpack_from(data)[1]
        if flags & QR:
            return None
        return self._respond_slowly(data, flags, common, tcp)

    def _repeat(self, data: bytes, common: _Common, tcp: bool, now: float) -> Reply | None:
        """The reply that was given before, whoever asked."""
        flags, key, question, limit = common
        memo, prepared = self.memo, self.memo.entries.get(key)
        if prepared is None:
            memo, key = self.forwarded, _forwarded_key(common)
            prepared = memo.entries.get(key)
        if prepared is None or prepared.tally is None or prepared.size(question) > limit:
            return None
        if not prepared.count_down(now):
            return None
        prepared.tally.again += 1
        reply = self._finish(data, flags, question, prepared)
        if not tcp and len(data) <= HEADER_SIZE + len(question) + _OPT_SIZE:
            memo.spell(key, data[2:], reply.wire[2 : HEADER_SIZE + len(question)])
        return reply

    def _respond_slowly(self, data: bytes, flags: int, common: _Common | None, tcp: bool) -> Reply | Outward | bytes:
        if flags >> OPCODE_SHIFT & OPCODE_MASK:
            return self._error(data, flags, Rcode.NOTIMP)
        try:
            query = parse(data)
        except MalformedMessageError:
            return self._error(data, flags, Rcode.FORMERR)
        found = self._answer(query)
        limit = _limit(query.edns, tcp)
        if found.elsewhere is not None:
            return send_outward(data, flags, query, found, limit, tcp=tcp)
        prepared = prepare(query.name, found, query.edns, limit)
        self._count(prepared, query, found.error is NOT_READY, found.authoritative)
        if common is not None and found.lasting and _is_everybodys(prepared, query, limit, common):
            self.memo.put(common[1], prepared, found.depends)
        return self._finish(data, QR | flags & (RD | CD), query.question, prepared)

    def complete(self, outward: Outward, outcome: Outcome | None) -> Reply:
        """The reply to what others were asked; None: nobody could be."""
        flags = QR | outward.flags & (RD | CD)
        prepared = complete(outward, outcome)
        self._count(prepared, outward.query, elsewhere=outward.wanted.elsewhere if outcome else None)
        common = _common(outward.data, outward.wanted.tcp) if prepared.countdown is not None else None
        is_everybodys = common is not None and _is_everybodys(prepared, outward.query, outward.limit, common)
        if common is not None and is_everybodys and self._answer(outward.query) == outward.found:  # it still is theirs
            self.forwarded.put(_forwarded_key(common), prepared, outward.found.depends)
        return self._finish(outward.data, flags, outward.query.question, prepared)

    def _count(
        self,
        prepared: Prepared,
        query: Query,
        not_ready: bool = False,
        authoritative: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Have ``prepared`` count under what it is, and count it once."""
        rule = NOT_READY_RULE if not_ready else rule_of(query.name, authoritative, elsewhere, self.config)
        tally = prepared.tally = self.tallies.of(query.type, prepared.rcode, rule)
        tally.answered += 1

    def _answer(self, query: Query) -> Answer:
        if query.edns is not None and query.edns.version != 0:
            return Answer(Rcode.BADVERS, authoritative=False, lasting=False)
        if query.klass != CLASS_IN or query.type in (Type.AXFR, Type.IXFR):
            return Answer(Rcode.REFUSED, authoritative=False, error=NOT_SUPPORTED, lasting=False)
        if self.probes.is_ours(query.name):
            return LOOPED
        return answer(query.name, query.type, self.index, self.config)

    def _finish(self, data: bytes, flags: int, question: bytes, prepared: Prepared) -> Reply:
        self._turn += 1
        head = data[:2] + (flags | prepared.flags).to_bytes(2, "big") + prepared.counts
        return Reply(head + question + prepared.tail(self._turn, self._serial), prepared)

    def _error(self, data: bytes, flags: int, rcode: Rcode) -> bytes:
        """A bare header: what could not be understood is not repeated."""
        self.tallies.of(0, rcode, MALFORMED).answered += 1
        opcode = flags & OPCODE_MASK << OPCODE_SHIFT
        return data[:2] + struct.pack("!HHHHH", QR | opcode | flags & RD | rcode, 0, 0, 0, 0)


def _is_everybodys(prepared: Prepared, query: Query, limit: int, common: _Common) -> bool:
    """Whether a reply may be given to all who ask the same: not one that was cut for somebody who takes little."""
    is_whole = limit >= EDNS_SIZE or query.edns is None or not prepared.flags & TC
    return is_whole and common[2] == query.question


def _forwarded_key(common: _Common) -> bytes:
    """What others say depends on RD and CD, too."""
    return common[1] + common[0].to_bytes(2, "big")


def _limit(edns: Edns | None, tcp: bool) -> int:
    """Octets that the reply may have."""
    if tcp:
        return MAX_MESSAGE
    return min(max(edns.size, PLAIN_LIMIT), EDNS_SIZE) if edns else PLAIN_LIMIT


def _common(data: bytes, tcp: bool) -> _Common | None:
    """The common question in ``data``, with its key in the memo; None when there is any doubt.

    The key holds the octets up to the first zero octet, the name in lower case, the type and the class as they are
    (type 65 is no letter). When a label holds a zero octet the key is no whole name: nothing is kept under it. What
    size a client takes is not in it: a reply that fits is the same for all of them.
    """
    head = HEADS.get(data[2:HEADER_SIZE])
    if head is None:
        return None
    flags, has_opt = head
    root = data.find(0, HEADER_SIZE)
    end = root + 5
    if root < 0 or len(data) < end:
        return None
    variant = 4 if tcp else 0
    limit = MAX_MESSAGE if tcp else PLAIN_LIMIT
    if has_opt:
        if len(data) < end + _OPT_SIZE or data[end : end + 3] != _OPT_START or data[end + 6]:
            return None
        if not tcp:
            limit = min(max(int.from_bytes(data[end + 3 : end + 5], "big"), PLAIN_LIMIT), EDNS_SIZE)
        options = int.from_bytes(data[end + 9 : end + 11], "big")
        if len(data) != end + _OPT_SIZE + options or (options and not _are_options(data, end + _OPT_SIZE)):
            return None
        variant |= 3 if data[end + 7] & DO >> 8 else 1
    elif len(data) != end:
        return None
    question = data[HEADER_SIZE:end]
    return flags, question[:-4].lower() + question[-4:] + _VARIANTS[variant], question, limit


def _are_options(data: bytes, offset: int) -> bool:
    try:
        check_options(data, offset, len(data))
    except MalformedMessageError:
        return False
    return True
