"""Questions that go to others, and how what they say becomes our reply. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .answer import Answer, ExtendedError
from .claims import Elsewhere
from .encode import EDNS_SIZE, Countdown, Prepared, prepare
from .foreign import Foreign, prepare_foreign
from .message import CD, DO, HEADER, PLAIN_LIMIT, RA, RD, TC, Edns, Query, question_for
from .records import Name, Rcode, Type

Key = tuple[Elsewhere, bytes, int, bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question for others."""

    elsewhere: Elsewhere
    name: Name
    question: bytes
    """The name as spelled, type and class."""
    flags: int
    """RD and CD, as the client sent them."""
    edns: Edns | None
    tcp: bool
    """Whether the client came over TCP."""

    @property
    def key(self) -> Key:
        """What questions with the same answer have in common."""
        folded = self.question[:-4].lower() + self.question[-4:]
        return self.elsewhere, folded, self.flags, self.edns is not None and self.edns.do

    def query(self) -> bytes:
        """The message to send, without an id. EDNS options are between neighbours: none goes on (RFC 6891 6.2.6)."""
        opt = b""
        if self.edns is not None:
            numbers = (Type.OPT, max(self.edns.size, PLAIN_LIMIT), 0, DO if self.edns.do else 0, 0)
            opt = b"\0" + b"".join(number.to_bytes(2, "big") for number in numbers)
        return HEADER.pack(0, self.flags, 1, 0, 0, bool(opt)) + self.question + opt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking."""

    reply: Foreign | None = None
    age: int = 0
    """Seconds since it came."""
    error: ExtendedError | None = None
    since: float | None = None
    """When it came, by the loop's clock; None when it may not be said again without asking."""


@dataclass(frozen=True, slots=True)
class Outward:
    """A query that others have to answer, or to complete the answer of."""

    data: bytes
    """The client's message."""
    flags: int
    """Its flags."""
    query: Query
    found: Answer
    """What we say ourselves, and all of it when nobody can be asked."""
    limit: int
    """Octets that the reply may have."""
    wanted: Wanted


def send_outward(data: bytes, flags: int, query: Query, found: Answer, limit: int, *, tcp: bool) -> Outward:
    """The question as it came; or, where ``found`` ends with an alias, one for what the alias leads to."""
    elsewhere = found.elsewhere or Elsewhere.UPSTREAM
    last = found.answer[-1].data if found.answer else None
    if isinstance(last, tuple):
        wanted = Wanted(
            elsewhere, last, question_for(last, query.type), RD | flags & CD, Edns(EDNS_SIZE, 0, do=False), tcp
        )
    else:
        wanted = Wanted(elsewhere, query.name, query.question, flags & (RD | CD), query.edns, tcp)
    return Outward(data, flags, query, found, limit, wanted)


def complete(outward: Outward, outcome: Outcome | None) -> Prepared:
    """The reply to ``outward``. Without an outcome there was nobody to ask."""
    query, found, limit = outward.query, outward.found, outward.limit
    if outcome is None:
        return prepare(query.name, found, query.edns, limit)
    reply = outcome.reply
    if found.answer:
        more = tuple(reply.answer_records(outcome.age)) if reply else ()
        whole = replace(found, answer=(*found.answer, *more), error=outcome.error)
        prepared = prepare(query.name, whole, query.edns, limit)
        prepared.flags |= TC if reply and reply.is_cut else 0
        if reply and outcome.since is not None:
            prepared.countdown, prepared.age = Countdown(outcome.since, reply.lifetime, None), outcome.age
        return prepared
    if reply is None:
        failure = Answer(Rcode.SERVFAIL, authoritative=False, error=outcome.error, lasting=False)
        prepared = prepare(query.name, failure, query.edns, limit)
        prepared.flags |= RA
        return prepared
    prepared = prepare_foreign(reply, query.edns, limit, age=outcome.age, error=outcome.error, since=outcome.since)
    if outward.wanted.elsewhere is Elsewhere.CLUSTER:
        prepared.addresses = reply.addresses
    if not prepared.addresses:
        prepared.fresh_until = math.inf
    return prepared
