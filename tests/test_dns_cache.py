"""What is kept of others' replies: for how long, for which questions, and what is left of it when nobody answers."""

from __future__ import annotations

import struct

import pytest
from dns_wire import CD, RD, Reply, opt, query, read
from hypothesis import given
from hypothesis import strategies as st
from upstream_double import (
    Forwarding,
    UpstreamDouble,
    a,
    always,
    asked_question,
    cname,
    extended_error,
    forwarding,
    reason,
    record,
    reply_to,
    silence,
    soa,
    upstream,
)

from resolverd.dns import foreign
from resolverd.dns.cache import MAX_STALE, Cache
from resolverd.dns.claims import Elsewhere
from resolverd.dns.encode import MAX_MESSAGE
from resolverd.dns.failures import FIRST, LONGEST, Failures
from resolverd.dns.forward import RECHECK
from resolverd.dns.message import HEADER, HEADER_SIZE, Edns, MalformedMessageError
from resolverd.dns.outward import Key, Outcome
from resolverd.dns.records import Rcode
from resolverd.dns.rules import DnsConfig
from resolverd.dns.worker import wake

NAME = "www.example.com"
SHORT = 0.3
"""A lookup timeout for those who shall see it pass, in seconds."""


def ttls(reply: Reply) -> list[int]:
    return [row.ttl for row in (*reply.answer, *reply.authority, *reply.additional)]


async def ttls_after(seconds: float, here: Forwarding, asked: bytes) -> list[int]:
    here.clock.now += seconds
    return ttls(await here.ask(asked))


class TestHowLong:
    async def test_ttls_are_counted_down(self) -> None:
        more = [a("192.0.2.7", 100, "ns.example.com")]
        async with (
            upstream(always(cname("x.example.com", 60), a(ttl=40), additional=more)) as other,
            forwarding(other.server) as here,
        ):
            assert await ttls_after(0, here, query(NAME)) == [60, 40, 100]
            assert await ttls_after(0.9, here, query(NAME)) == [60, 40, 100]
            assert await ttls_after(10.1, here, query(NAME)) == [49, 29, 89]
            assert await ttls_after(28.9, here, query(NAME.upper())) == [21, 1, 61]
            assert len(other.asked) == 1
            assert await ttls_after(0.1, here, query(NAME)) == [60, 40, 100]
            assert len(other.asked) == 2

    async def test_they_pass_while_the_host_sleeps(self) -> None:
        async with upstream(always(a(ttl=300))) as other, forwarding(other.server) as here:
            for slept, expected in ((0, [300]), (100, [200]), (250, [300])):
                wake(slept, here.responder, here.forwarder)
                assert await ttls_after(0, here, query(NAME)) == expected
                assert await ttls_after(0, here, query(NAME)) == expected
            assert len(other.asked) == 2

    @pytest.mark.parametrize("rcode", [0, 3])
    @pytest.mark.parametrize(("ttl", "minimum"), [(900, 60), (60, 900), (60, 60)])
    async def test_denials_live_as_long_as_their_soa_says(self, rcode: int, ttl: int, minimum: int) -> None:
        async with (
            upstream(always(rcode=rcode, authority=[soa(ttl, minimum)])) as other,
            forwarding(other.server) as here,
        ):
            assert await ttls_after(0, here, query(NAME)) == [60]
            assert await ttls_after(59, here, query(NAME)) == [1]
            assert len(other.asked) == 1
            assert await ttls_after(1, here, query(NAME)) == [60]
            assert len(other.asked) == 2

    async def test_denials_behind_an_alias_live_as_long_as_their_soa_says(self) -> None:
        async with (
            upstream(always(cname("x.example.com", 300), authority=[soa(900, 60)])) as other,
            forwarding(other.server) as here,
        ):
            await here.ask(query(NAME))
            await ttls_after(59, here, query(NAME))
            assert len(other.asked) == 1
            await ttls_after(1, here, query(NAME))
            assert len(other.asked) == 2

    async def test_denials_live_half_an_hour_at_most(self) -> None:
        async with (
            upstream(always(rcode=3, authority=[soa(86400, 86400)])) as other,
            forwarding(other.server) as here,
        ):
            assert await ttls_after(0, here, query(NAME)) == [1800]

    @pytest.mark.parametrize(
        ("answer", "more"),
        [
            ((), {}),
            ((), {"rcode": 3}),
            ((cname("x.example.com"),), {}),
            ((a(ttl=0),), {}),
            ((a(ttl=1 << 31),), {}),
            ((a(),), {"rcode": 2}),
            ((a(),), {"rcode": 5}),
        ],
    )
    async def test_what_is_not_kept(self, answer: tuple[bytes, ...], more: dict[str, object]) -> None:
        async with upstream(always(*answer, **more)) as other, forwarding(other.server) as here:
            await here.ask(query(NAME))
            before = len(other.asked)
            here.clock.now += FIRST
            await here.ask(query(NAME))
            assert len(other.asked) == 2 * before

    @pytest.mark.parametrize(("rcode", "tcp"), [(2, False), (5, False), (5, True)])
    async def test_a_failure_is_said_again_for_a_while(self, rcode: int, tcp: bool) -> None:
        """RFC 9520: at least a second, longer each time, and never long."""
        async with upstream(always(rcode=rcode)) as other, forwarding(other.server) as here:
            ask, said = (here.ask_over_tcp if tcp else here.ask), []
            for _ in range(6):
                failed = await ask(query(NAME, edns=opt()))
                said.append((failed.rcode, extended_error(failed), reason(failed)))
                rounds = len(other.asked) + len(other.over_tcp)
                said.append(said[-1])
                again = await ask(query(NAME, edns=opt()))
                said.append((again.rcode, extended_error(again), reason(again)))
                assert len(other.asked) + len(other.over_tcp) == rounds
                here.clock.now += LONGEST
            assert set(said) == {(rcode, 22, f"an upstream answers {Rcode(rcode).name}")}
            assert rounds == 6 * 2
            await ask(query("another.example.com"))
            assert len(other.asked) + len(other.over_tcp) == rounds + 2
            other.says = always(a())
            here.clock.now += LONGEST
            assert (await ask(query(NAME))).rcode == 0

    def test_failures_in_a_row_are_kept_longer_and_an_answer_ends_the_row(self) -> None:
        kept, key, now = Failures(2), (Elsewhere.UPSTREAM, b"x", 0, False), 0.0
        lengths = []
        for _ in range(5):
            kept.put(key, Outcome(), now)
            length = next(n for n in range(60) if kept.get(key, now + n) is None)
            lengths.append(length)
            now += length
        assert lengths == [1, 2, 4, 5, 5]
        kept.forget(key)
        kept.put(key, Outcome(), now)
        assert kept.get(key, now + FIRST) is None
        for number in range(5):
            kept.put((Elsewhere.CLUSTER, bytes((number,)), 0, False), Outcome(), now)
        assert len(kept) == 2

    async def test_other_upstreams_may_have_an_answer_at_once(self) -> None:
        async with (
            upstream(always(rcode=2)) as other,
            upstream(always(a())) as good,
            forwarding(other.server) as here,
        ):
            assert (await here.ask(query(NAME))).rcode == 2
            here.configure(DnsConfig(upstreams=(good.server,)))
            assert (await here.ask(query(NAME))).rcode == 0

    async def test_a_changed_answer_takes_the_place_of_the_old_one(self) -> None:
        async with upstream(always(a(ttl=10))) as other, forwarding(other.server) as here:
            await here.ask(query(NAME))
            other.says = always(a("192.0.2.2", ttl=10))
            here.clock.now += 10
            for _ in range(2):
                assert str((await here.ask(query(NAME))).answer[0].data) == "192.0.2.2"


class TestForWhom:
    async def test_questions_that_differ_are_kept_apart(self) -> None:
        kinds = [
            query(NAME),
            query(NAME, flags=0),
            query(NAME, flags=RD | CD),
            query(NAME, edns=opt(flags=0x8000)),
            query(NAME, 28),
            query("other.example.com"),
        ]

        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            kind = int.from_bytes(asked_question(asked)[-4:-2], "big")
            return [reply_to(asked, record(None, kind, 60, bytes(4 if kind == 1 else 16)))]

        async with upstream(says) as other, forwarding(other.server) as here:
            for number, asked in enumerate(kinds, 1):
                await here.ask(asked)
                await here.ask(asked)
                assert len(other.asked) == number

    async def test_the_rest_does_not_matter(self) -> None:
        async with upstream(always(a())) as other, forwarding(other.server) as here:
            assert (await here.ask(query(NAME))).opt is None
            assert (await here.ask(query(NAME, edns=opt(4096)))).opt
            assert len((await here.ask_over_tcp(query(NAME.upper(), number=5))).answer) == 1
            assert len(other.asked) + len(other.over_tcp) == 1

    async def test_what_was_cut_for_one_is_whole_for_another(self) -> None:
        async with upstream(always(*(a(f"192.0.2.{n}") for n in range(60)))) as other, forwarding(other.server) as here:
            assert (await here.ask(query(NAME))).is_cut
            assert len((await here.ask(query(NAME, edns=opt()))).answer) == 60
            assert len(other.asked) == 1


class TestStale:
    @staticmethod
    async def fail(other: UpstreamDouble, how: str) -> None:
        if how == "gone":
            other.close()
        else:
            other.says = silence if how == "silent" else always(rcode=2)

    @pytest.mark.parametrize("how", ["gone", "silent", "servfail"])
    async def test_old_answers_are_better_than_none(self, how: str) -> None:
        async with upstream(always(a(ttl=60))) as other, forwarding(other.server, within=SHORT) as here:
            await here.ask(query(NAME))
            await self.fail(other, how)
            here.clock.now += 3600
            reply = await here.ask(query(NAME, edns=opt()))
            assert (reply.rcode, ttls(reply), extended_error(reply)) == (0, [30], 3)
            assert here.forwarder.counts.stale == 1

    async def test_denials_too(self) -> None:
        async with upstream(always(rcode=3, authority=[soa()])) as other, forwarding(other.server) as here:
            await here.ask(query(NAME))
            other.close()
            here.clock.now += 3600
            reply = await here.ask(query(NAME, edns=opt()))
            assert (reply.rcode, ttls(reply), extended_error(reply)) == (3, [30], 3)

    async def test_nobody_is_asked_again_for_a_while(self) -> None:
        async with upstream(always(a(ttl=60))) as other, forwarding(other.server) as here:
            await here.ask(query(NAME))
            other.says = always(rcode=2)
            here.clock.now += 60
            await here.ask(query(NAME))
            before = len(other.asked)
            other.says = always(a(ttl=60))
            here.clock.now += RECHECK - 1
            assert ttls(await here.ask(query(NAME))) == [30]
            assert len(other.asked) == before
            here.clock.now += 1
            assert ttls(await here.ask(query(NAME))) == [60]

    async def test_answers_that_are_too_old_are_gone(self) -> None:
        async with upstream(always(a(ttl=60))) as other, forwarding(other.server) as here:
            await here.ask(query(NAME))
            other.close()
            here.clock.now += 60 + MAX_STALE
            assert (await here.ask(query(NAME))).rcode == 2
            assert len(here.forwarder.cache) == 0

    async def test_what_an_alias_leads_to_may_be_stale(self) -> None:
        async with upstream(always(a(ttl=60))) as other, forwarding(other.server) as here:
            await here.ask(query("outside.shop"))
            other.close()
            here.clock.now += 3600
            reply = await here.ask(query("outside.shop", edns=opt()))
            assert (len(reply.answer), reply.answer[-1].ttl, extended_error(reply)) == (2, 30, 3)


def kept(name: str, *answer: bytes) -> tuple[Key, foreign.Foreign]:
    asked = query(name)
    reply = foreign.read(reply_to(asked, *answer), asked)
    return (Elsewhere.UPSTREAM, reply.question, RD, False), reply


class TestBounds:
    def test_what_was_not_used_for_longest_goes_first(self) -> None:
        cache = Cache(entries=3)
        keys = []
        for number in range(4):
            key, reply = kept(f"{number}.example.com", a())
            keys.append(key)
            cache.put(key, reply, 0)
            assert cache.get(keys[0], 0) is not None
        assert [cache.get(key, 0) is not None for key in keys] == [True, False, True, True]

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), max_size=60))
    def test_octets_are_counted_and_bounded(self, puts: list[tuple[int, int]]) -> None:
        cache = Cache(entries=6, octets=8000)
        for name, size in puts:
            cache.put(*kept(f"{name}.example.com", *[a()] * size), 0)
            found = [cache.get(kept(f"{n}.example.com")[0], 0) for n in range(10)]
            assert cache.octets == sum(one.octets for one in found if one) <= 8000
            assert len(cache) == sum(one is not None for one in found) <= 6
        cache.clear()
        assert (cache.octets, len(cache)) == (0, 0)


WHOLE = reply_to(
    query(NAME),
    cname("real.example.net", 60),
    a(owner="real.example.net"),
    authority=[soa()],
    additional=[a(owner="ns.example.net"), opt()],
)


class TestHostileReplies:
    @staticmethod
    def handed_on(reply: bytes, asked: bytes) -> None:
        """What is made of ``reply`` must be well-formed in all that we vouch for: counts, owners and lengths."""
        if not foreign.answers(reply, asked):
            return
        try:
            taken = foreign.read(reply, asked)
        except MalformedMessageError:
            return
        for edns, limit in ((None, 512), (Edns(1232, 0, do=True), 1232), (None, MAX_MESSAGE)):
            prepared = foreign.prepare_foreign(taken, edns, limit, age=3)
            whole = HEADER.pack(0, 0x8000 | prepared.flags, *struct.unpack("!HHHH", prepared.counts))
            whole += taken.question + prepared.tail(0, b"")
            assert len(whole) <= limit
            offset = HEADER_SIZE + len(taken.question)
            for _ in range(sum(struct.unpack("!HHH", prepared.counts[2:]))):
                offset = foreign._row(whole, offset).end
            assert offset == len(whole)
        for found in taken.answer_records(3):
            assert sum(map(len, found.owner)) + len(found.owner) < 255

    def test_a_whole_one_is_read_as_it_is(self) -> None:
        taken = foreign.read(WHOLE, query(NAME))
        assert (taken.counts, taken.lifetime) == ((2, 1, 1), 60)
        assert [str(address) for address in taken.addresses] == ["192.0.2.1"]
        self.handed_on(WHOLE, query(NAME))

    @pytest.mark.parametrize("length", range(len(WHOLE)))
    def test_cut_anywhere(self, length: int) -> None:
        self.handed_on(WHOLE[:length], query(NAME))

    @given(st.lists(st.tuples(st.integers(12, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def test_with_any_octets_changed(self, changes: list[tuple[int, int]]) -> None:
        spoilt = bytearray(WHOLE)
        for place, octet in changes:
            spoilt[place] = octet
        self.handed_on(bytes(spoilt), query(NAME))

    @given(st.binary(max_size=200), st.tuples(*[st.integers(0, 3)] * 3))
    def test_with_any_octets_behind_the_question(self, data: bytes, counts: tuple[int, int, int]) -> None:
        head = HEADER.pack(4711, 0x8180, 1, *counts)
        self.handed_on(head + query(NAME)[HEADER_SIZE:] + data, query(NAME))

    @pytest.mark.parametrize("data", [b"\1x", b"\x80x\0", b"\1x\0\0", b"\xc0", b""])
    def test_an_alias_that_is_no_name_spoils_all_of_it(self, data: bytes) -> None:
        with pytest.raises(MalformedMessageError):
            foreign.read(reply_to(query(NAME), record(None, 5, 60, data), a()), query(NAME))

    def test_an_soa_too_short_for_its_numbers_says_nothing(self) -> None:
        reply = reply_to(query(NAME), rcode=3, authority=[record("example.com", 6, 60, bytes(21))])
        assert foreign.read(reply, query(NAME)).lifetime == 0

    def test_pointers_that_lead_round_are_no_name(self) -> None:
        loop = struct.pack("!H", 0xC000 | len(query(NAME))) + struct.pack("!HHIH", 1, 1, 60, 4) + b"abcd"
        with pytest.raises(MalformedMessageError):
            foreign.read(reply_to(query(NAME), loop), query(NAME))


def test_reading_back_is_what_clients_do() -> None:
    asked = query(NAME, edns=opt())
    prepared = foreign.prepare_foreign(foreign.read(WHOLE, asked), Edns(1232, 0, do=False), 1232, age=59)
    head = HEADER.pack(1, 0x8000 | prepared.flags, *struct.unpack("!HHHH", prepared.counts))
    assert ttls(read(head + query(NAME)[HEADER_SIZE:] + prepared.tail(0, b""))) == [1, 241, 841, 241]
