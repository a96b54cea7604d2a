"""Names of others: how they are asked for, whom to believe, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from ipaddress import ip_address

import pytest
from dns_wire import AD, CD, COOKIE, RD, Row, opt, query
from fakes import eventually
from upstream_double import (
    GUARD,
    PATIENT,
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
    upstream,
)

from resolverd.dns import forward
from resolverd.dns.records import Type
from resolverd.dns.rules import DnsConfig
from resolverd.host import Server

NAME = "www.example.com"
FOREVER = 30.0
SHORT = 0.4
"""A lookup timeout for those who shall see it pass, in seconds."""
MANY = tuple(a(f"192.0.2.{n}") for n in range(1, 151))
"""More than any datagram of ours holds."""


def addresses(rows: list[Row]) -> list[str]:
    return [str(row.data) for row in rows]


class TestTheQuestion:
    @pytest.mark.parametrize("flags", [0, RD, CD, RD | CD])
    @pytest.mark.parametrize("edns", [b"", opt(1232), opt(4096), opt(512, flags=0x8000)])
    async def test_goes_on_as_it_came(self, flags: int, edns: bytes) -> None:
        async with upstream(always(a())) as other, forwarding(other.server) as here:
            sent = query("wWw.eXample.COM", edns=edns, flags=flags)
            await here.ask(sent)
            assert [asked[2:] for asked in other.asked] == [sent[2:]]

    async def test_goes_on_without_what_is_meant_for_us(self) -> None:
        async with upstream(always(a())) as other, forwarding(other.server) as here:
            await here.ask(query(NAME, edns=opt(options=COOKIE), flags=RD | AD))
            assert [asked[2:] for asked in other.asked] == [query(NAME, edns=opt())[2:]]

    async def test_ids_and_ports_are_new_each_time(self) -> None:
        async with upstream(always(a(ttl=0))) as other, forwarding(other.server) as here:
            for _ in range(40):
                await here.ask(query(NAME, number=1))
            assert len({asked[:2] for asked in other.asked}) > 30
            assert len({peer[1] for peer in other.peers}) > 30

    async def test_tcp_clients_are_served_over_tcp(self) -> None:
        async with upstream(always(*MANY)) as other, forwarding(other.server) as here:
            assert len((await here.ask_over_tcp(query(NAME))).answer) == len(MANY)
            assert (len(other.asked), len(other.over_tcp)) == (0, 1)

    @pytest.mark.parametrize("kind", [1, 28, 15, 16, 65, 255, 6, 33])
    async def test_of_any_type(self, kind: int) -> None:
        async with upstream(always(record(None, 99, 60, b"\1x"))) as other, forwarding(other.server) as here:
            assert (await here.ask(query(NAME, kind))).rcode == 0
            assert other.questions() == [asked_question(query(NAME, kind))]

    async def test_of_other_classes_is_refused(self) -> None:
        async with upstream(always(a())) as other, forwarding(other.server) as here:
            assert (await here.ask(query("version.bind", 16, klass=3))).rcode == 5
            assert other.asked == []


class TestTheReply:
    @pytest.mark.parametrize("edns", [b"", opt(), opt(flags=0x8000)])
    async def test_is_not_ours(self, edns: bytes) -> None:
        says = always(a(ttl=77), flags=0x8580 | AD, additional=[opt(4096, flags=0x8000)])
        async with upstream(says) as other, forwarding(other.server) as here:
            reply = await here.ask(query("WWW.example.com", edns=edns, flags=RD | CD))
            assert reply.flags == 0x8000 | RD | CD | 0x0080
            assert addresses(reply.answer) == ["192.0.2.1"]
            assert reply.answer[0].owner == (b"WWW", b"example", b"com")
            assert reply.answer[0].ttl == 77
            assert (reply.opt is not None) == bool(edns)
            if reply.opt:
                assert reply.opt.ttl & 0x8000 == int.from_bytes(edns[7:9], "big")
                assert extended_error(reply) is None

    @pytest.mark.parametrize(("rcode", "edns"), [(0, b""), (3, b""), (0, opt()), (3, opt())])
    async def test_keeps_its_rcode(self, rcode: int, edns: bytes) -> None:
        async with upstream(always(rcode=rcode)) as other, forwarding(other.server) as here:
            assert (await here.ask(query(NAME, edns=edns))).rcode == rcode

    async def test_that_is_cut_is_fetched_over_tcp(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            return [reply_to(asked, a(), a("192.0.2.2")) if tcp else reply_to(asked, flags=0x8380)]

        async with upstream(says) as other, forwarding(other.server) as here:
            reply = await here.ask(query(NAME))
            assert not reply.is_cut
            assert addresses(reply.answer) == ["192.0.2.1", "192.0.2.2"]
            assert (len(other.asked), len(other.over_tcp)) == (1, 1)

    async def test_that_is_cut_is_passed_on_when_tcp_fails(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            return [] if tcp else [reply_to(asked, flags=0x8380)]

        async with upstream(says) as other, forwarding(other.server) as here:
            assert (await here.ask(query(NAME))).is_cut
            assert (await here.ask(query(NAME))).is_cut
            assert len(other.asked) == 2

    @pytest.mark.parametrize("edns", [b"", opt(512), opt(), opt(4096)])
    async def test_that_does_not_fit_is_cut(self, edns: bytes) -> None:
        async with upstream(always(*MANY)) as other, forwarding(other.server) as here:
            reply = await here.ask(query(NAME, edns=edns))
            assert reply.is_cut
            assert not reply.has_records
            assert (reply.opt is not None) == bool(edns)
            assert len((await here.ask_over_tcp(query(NAME, edns=edns))).answer) == len(MANY)

    async def test_loses_what_follows_its_opt_record(self) -> None:
        more = [a("192.0.2.7", owner="ns.example.com"), opt(), a("192.0.2.8", owner="late.example.com")]
        async with upstream(always(a(), additional=more)) as other, forwarding(other.server) as here:
            reply = await here.ask(query(NAME))
            assert addresses(reply.additional) == ["192.0.2.7"]


class TestWhomToBelieve:
    async def test_replies_with_another_id_or_question_are_passed_over(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            lie = a("192.0.2.66")
            return [
                bytes((asked[0] ^ 1,)) + reply_to(asked, lie)[1:],
                asked[:2] + reply_to(query("www.example.org"), lie)[2:],
                asked[:2] + reply_to(query(NAME, 28), lie)[2:],
                asked[:2] + reply_to(query(NAME, klass=3), lie)[2:],
                reply_to(asked, lie, flags=0x0180),
                asked,
                b"",
                asked[:11],
                reply_to(asked, a()),
            ]

        async with upstream(says) as other, forwarding(other.server) as here:
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    async def test_replies_from_elsewhere_never_arrive(self) -> None:
        async with upstream(silence) as other, upstream(silence) as stranger:

            async def says(asked: bytes, tcp: bool) -> list[bytes]:
                stranger.transport.sendto(reply_to(asked, a("192.0.2.66")), other.peers[-1])
                await asyncio.sleep(0.01)
                return [reply_to(asked, a())]

            other.says = says
            async with forwarding(other.server) as here:
                assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    async def test_the_case_of_the_question_may_be_lost_on_the_way(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            return [asked[:2] + reply_to(asked.lower(), a())[2:]]

        async with upstream(says) as other, forwarding(other.server) as here:
            assert addresses((await here.ask(query("wWw.EXAMPLE.com"))).answer) == ["192.0.2.1"]

    @pytest.mark.parametrize("tcp", [False, True])
    @pytest.mark.parametrize(
        "broken",
        [
            b"\xc0\x0c\0\1\0\1\0\0",
            b"\xc0\x0c\0\1\0\1\0\0\0\1\xff\xff",
            b"\xc0\xff\0\1\0\1\0\0\0\1\0\4abcd",
            b"\xc0",
        ],
    )
    async def test_broken_replies_are_no_replies(self, broken: bytes, tcp: bool) -> None:
        async with (
            upstream(always(broken)) as bad,
            upstream(always(a())) as good,
            forwarding(bad.server, good.server) as here,
        ):
            reply = await (here.ask_over_tcp if tcp else here.ask)(query(NAME))
            assert addresses(reply.answer) == ["192.0.2.1"]

    async def test_lies_over_tcp_are_no_replies(self) -> None:
        async with upstream(always(a("192.0.2.66"))) as bad, upstream(always(a())) as good:

            async def lie(asked: bytes, tcp: bool) -> list[bytes]:
                return [asked[:2] + reply_to(query("www.example.org"), a("192.0.2.66"))[2:]]

            bad.says = lie
            async with forwarding(bad.server, good.server) as here:
                assert addresses((await here.ask_over_tcp(query(NAME))).answer) == ["192.0.2.1"]


class TestFailures:
    @pytest.mark.parametrize("rcode", [1, 2, 4, 5, 9])
    async def test_the_next_is_asked_when_one_cannot(self, rcode: int) -> None:
        async with (
            upstream(always(rcode=rcode)) as bad,
            upstream(always(a())) as good,
            forwarding(bad.server, good.server) as here,
        ):
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    async def test_a_bare_error_is_an_answer_too(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            return [asked[:2] + struct.pack("!HHHHH", 0x8001, 0, 0, 0, 0)]

        async with upstream(says) as other, forwarding(other.server) as here:
            reply = await here.ask(query(NAME, edns=opt()))
            assert (reply.rcode, extended_error(reply)) == (1, 22)

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_the_next_is_asked_when_one_is_silent_or_gone(self, tcp: bool) -> None:
        async with upstream(silence) as gone, upstream(silence) as mute, upstream(always(a(ttl=0))) as good:
            gone.close()
            async with forwarding(gone.server, mute.server, good.server, within=4) as here:
                ask = here.ask_over_tcp if tcp else here.ask
                for _ in range(3):
                    assert addresses((await ask(query(NAME))).answer) == ["192.0.2.1"]
                assert len(mute.questions()) + len(mute.over_tcp) == 1, "who answered is asked first afterwards"

    async def test_a_slow_one_may_still_answer_while_others_are_asked(self) -> None:
        async with upstream(silence) as slow, upstream(silence) as mute:
            asked_both = asyncio.Event()

            async def late(asked: bytes, tcp: bool) -> list[bytes]:
                await asked_both.wait()
                return [reply_to(asked, a())]

            async def wake(asked: bytes, tcp: bool) -> list[bytes]:
                asked_both.set()
                return []

            slow.says, mute.says = late, wake
            async with forwarding(slow.server, mute.server, within=2) as here:
                assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    async def test_a_lost_datagram_is_sent_again(self) -> None:
        async with upstream(silence) as other:

            async def second(asked: bytes, tcp: bool) -> list[bytes]:
                return [reply_to(asked, a())] if len(other.asked) > 1 else []

            other.says = second
            async with forwarding(other.server, within=1) as here:
                assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_nobody_there_is_said_at_once(self, tcp: bool) -> None:
        async with upstream(silence) as gone:
            gone.close()
            async with forwarding(gone.server, within=PATIENT) as here:
                reply = await (here.ask_over_tcp if tcp else here.ask)(query(NAME, edns=opt()))
                assert (reply.rcode, extended_error(reply), reply.has_records) == (2, 23, False)
                assert reply.flags & 0x0480 == 0x0080

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_nobody_answering_is_said_in_time(self, tcp: bool) -> None:
        async with upstream(silence) as mute:
            if tcp:

                async def hang(asked: bytes, tcp: bool) -> list[bytes]:
                    await asyncio.sleep(FOREVER)
                    return []

                mute.says = hang
            async with forwarding(mute.server, within=SHORT) as here:
                reply = await (here.ask_over_tcp if tcp else here.ask)(query(NAME, edns=opt()))
                assert (reply.rcode, extended_error(reply)) == (2, 22)

    async def test_without_upstreams_names_of_others_are_refused(self) -> None:
        async with forwarding() as here:
            reply = await here.ask(query(NAME, edns=opt()))
            assert (reply.rcode, extended_error(reply), reply.flags & 0x0080) == (5, 20, 0)

    async def test_new_upstreams_are_asked_anew(self) -> None:
        async with (
            upstream(always(a())) as before,
            upstream(always(a("192.0.2.2"))) as after,
            forwarding(before.server) as here,
        ):
            await here.ask(query(NAME))
            here.configure(DnsConfig(upstreams=(after.server,)))
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.2"]

    @pytest.mark.parametrize("rcode", [0, 3, 2])
    async def test_what_those_before_are_still_asked_is_asked_of_new_upstreams_too(self, rcode: int) -> None:
        late = asyncio.Event()

        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            await late.wait()
            return [reply_to(asked, *([a("192.0.2.66")] if rcode == 0 else []), rcode=rcode)]

        async with upstream(says) as before, upstream(always(a())) as after, forwarding(before.server) as here:
            first = asyncio.create_task(here.ask(query(NAME)))
            await eventually(lambda: bool(before.asked))
            here.configure(DnsConfig(upstreams=(after.server,), lookup_timeout=PATIENT))
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]
            late.set()
            assert (await first).rcode == (0 if rcode == 2 else rcode)
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]
            here.forwarder.cache.clear()
            assert addresses((await here.ask(query(NAME))).answer) == ["192.0.2.1"]

    async def test_closing_gives_up_what_is_under_way(self) -> None:
        async with upstream(silence) as mute, forwarding(mute.server) as here:
            asking = asyncio.create_task(here.ask(query(NAME)))
            while not mute.asked:
                await asyncio.sleep(0.005)
            await here.forwarder.close()
            asking.cancel()
            assert not here.forwarder._flights


class TestCrowds:
    async def test_one_question_of_many_is_asked_once(self) -> None:
        async with upstream(silence) as other:
            free = asyncio.Event()

            async def says(asked: bytes, tcp: bool) -> list[bytes]:
                await free.wait()
                return [reply_to(asked, a(ttl=0))]

            other.says = says
            async with forwarding(other.server) as here:
                spellings = [NAME, NAME.upper(), "wWw.Example.com"]
                asking = [
                    asyncio.create_task(here.ask(query(spellings[n % 3], edns=opt(), number=n))) for n in range(30)
                ]
                while here.forwarder._crowd < 30:
                    await asyncio.sleep(0.005)
                free.set()
                for reply in await asyncio.gather(*asking):
                    assert addresses(reply.answer) == ["192.0.2.1"]
                assert len(other.questions()) == 1
                assert not here.forwarder._crowd

    async def test_who_asks_for_much_and_reads_nothing_loses_the_connection(self) -> None:
        free, count = asyncio.Event(), 400

        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            await free.wait()
            return [reply_to(asked, record(None, 99, 60, b"x" * 60_000))]

        async with upstream(says) as other, forwarding(other.server) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            asked = query(NAME, 99)
            writer.write((struct.pack("!H", len(asked)) + asked) * count)
            await eventually(lambda: here.forwarder._crowd == count)
            free.set()
            await eventually(lambda: not here.forwarder._crowd)
            got = 0
            with contextlib.suppress(ConnectionError):
                while more := await asyncio.wait_for(reader.read(1 << 20), GUARD):
                    got += len(more)
            assert got < count * 60_000
            writer.close()
            assert (await here.ask_over_tcp(asked)).answer

    async def test_what_is_too_much_fails_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "MAX_FLIGHTS", 3)
        monkeypatch.setattr(forward, "MAX_WAITING", 5)
        async with upstream(silence) as mute, forwarding(mute.server) as here:
            waiting = [asyncio.create_task(here.ask(query(f"{n}.example.com"))) for n in range(3)]
            while here.forwarder._crowd < 3:
                await asyncio.sleep(0.005)
            assert reason(await here.ask(query("more.example.com", edns=opt()))) == forward.BUSY.text
            waiting += [asyncio.create_task(here.ask(query("0.example.com"))) for _ in range(2)]
            while here.forwarder._crowd < 5:
                await asyncio.sleep(0.005)
            assert reason(await here.ask(query("0.example.com", edns=opt()))) == forward.BUSY.text
            assert (await here.ask(query("web.shop"))).rcode == 0
            for task in waiting:
                task.cancel()


class TestAliases:
    """ExternalName services whose targets lie outside: ours is the alias, the rest is the upstream's."""

    async def test_answers_are_put_together(self) -> None:
        says = always(cname("real.example.net"), a("192.0.2.9", owner="real.example.net"), flags=0x8180)
        async with upstream(says) as other, forwarding(other.server) as here:
            for name in ("outside.shop.svc.cluster.local", "far.shop"):
                reply = await here.ask(query(name, edns=opt()))
                assert [row.type for row in reply.answer][-3:] == [Type.CNAME, Type.CNAME, Type.A]
                assert reply.answer[-1].data == ip_address("192.0.2.9")
                assert reply.answer[-3].data == (b"db", b"Example", b"com")
                assert reply.flags & 0x0480 == 0x0400
            assert other.questions() == [asked_question(query("db.Example.com"))]

    @pytest.mark.parametrize("flags", [0, RD, CD, RD | CD])
    async def test_the_target_is_asked_for_with_recursion_and_checked_as_the_client_wants(self, flags: int) -> None:
        async with upstream(always(a(owner="db.Example.com"))) as other, forwarding(other.server) as here:
            await here.ask(query("outside.shop", flags=flags))
            due = query("db.Example.com", edns=opt(), flags=RD | flags & CD)
            assert [asked[2:] for asked in other.asked] == [due[2:]]

    async def test_a_quad_a_question_asks_for_quad_a(self) -> None:
        async with (
            upstream(always(record(None, 28, 60, ip_address("2001:db8::1").packed))) as other,
            forwarding(other.server) as here,
        ):
            assert addresses((await here.ask(query("outside.shop", 28))).answer)[-1] == "2001:db8::1"
            assert (await here.ask(query("outside.shop", 5))).answer[0].type == Type.CNAME
            assert len(other.asked) == 1

    @pytest.mark.parametrize("rcode", [0, 2, 3, 5])
    async def test_whatever_the_upstream_denies_the_alias_stays(self, rcode: int) -> None:
        async with upstream(always(rcode=rcode)) as other, forwarding(other.server) as here:
            reply = await here.ask(query("outside.shop", edns=opt()))
            assert (reply.rcode, [row.type for row in reply.answer]) == (0, [Type.CNAME])
            assert extended_error(reply) == (22 if rcode in (2, 5) else None)

    async def test_without_upstreams_it_stands_alone(self) -> None:
        async with forwarding() as here:
            assert [row.type for row in (await here.ask(query("outside.shop"))).answer] == [Type.CNAME]

    async def test_what_does_not_fit_is_cut(self) -> None:
        async with upstream(always(*MANY)) as other, forwarding(other.server) as here:
            reply = await here.ask(query("outside.shop"))
            assert reply.is_cut
            assert len((await here.ask_over_tcp(query("outside.shop"))).answer) == len(MANY) + 1

    async def test_what_the_upstream_cuts_is_cut(self) -> None:
        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            return [] if tcp else [reply_to(asked, a(), flags=0x8380)]

        async with upstream(says) as other, forwarding(other.server) as here:
            reply = await here.ask(query("outside.shop"))
            assert reply.is_cut
            assert len(reply.answer) == 2


def test_servers_are_shown_as_they_are_written() -> None:
    from resolverd.dns.upstream import DnsServer

    assert str(DnsServer(Server(ip_address("::1"), 5399))) == "[::1]:5399"
    assert DnsServer(Server(ip_address("::1"))).is_near
    assert not DnsServer(Server(ip_address("9.9.9.9"))).is_near
