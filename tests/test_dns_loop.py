"""An upstream that asks us what we ask it: noticed, said once, and never a storm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from dns_wire import HEADER, opt, query, read, wire
from fakes import eventually
from upstream_double import (
    GUARD,
    LOCALHOST,
    PATIENT,
    Forwarding,
    UpstreamDouble,
    a,
    always,
    asked_question,
    extended_error,
    forwarding,
    reason,
    reply_to,
    upstream,
)

from resolverd.dns.flight import LOOP
from resolverd.dns.probes import MAX_PROBES, PREFIX, Probes
from resolverd.dns.rules import DnsConfig
from resolverd.dns.upstream import DnsServer
from resolverd.host import Server

NAME = "www.example.com"


@dataclass
class Stub:
    """A resolver that sends every question on to ``to``, as a question of its own."""

    to: Server | None = None
    shares: bool = False
    """Whether a question that it already waits for is not asked again, as systemd-resolved does it."""
    _open: dict[bytes, asyncio.Task[bytes]] = field(default_factory=dict)

    async def says(self, asked: bytes, tcp: bool) -> list[bytes]:
        assert self.to
        key = asked_question(asked)
        task = self._open.get(key) if self.shares else None
        if task is None:
            task = self._open[key] = asyncio.create_task(DnsServer(self.to).ask(asked, tcp=tcp))
        reply = await task
        self._open.pop(key, None)
        return [asked[:2] + reply[2:]]


@asynccontextmanager
async def round_trip(*more: Server, shares: bool = False) -> AsyncIterator[tuple[Forwarding, UpstreamDouble]]:
    """Our server behind a stub that asks it, and what the stub was asked."""
    stub = Stub(shares=shares)
    async with upstream(stub.says) as other, forwarding(other.server, *more) as here:
        stub.to = Server(other.server.address, here.port)
        yield here, other


@pytest.mark.parametrize("shares", [False, True])
async def test_a_stub_that_asks_us_is_noticed(shares: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with round_trip(shares=shares) as (here, other):
        with caplog.at_level(logging.WARNING):
            for number in range(3):
                reply = await here.ask(query(f"{number}.example.com", edns=opt()))
                assert (reply.rcode, extended_error(reply), reason(reply)) == (2, 22, LOOP.text)
        assert len([line for line in caplog.messages if "asks us what we ask it" in line]) == 1
        assert len(other.asked) <= 3 * 3, "each question at most twice, and one probe"
        assert not here.forwarder._flights


async def test_a_stub_that_waits_for_us_itself_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """The client asks the stub, the stub asks us, we ask the stub: it waits for its own question, and none returns."""
    async with round_trip(shares=True) as (_, other):
        with caplog.at_level(logging.WARNING):
            reply = await asyncio.wait_for(DnsServer(other.server).ask(query(NAME, edns=opt()), tcp=False), GUARD)
        assert reason(read(reply)) == LOOP.text
        assert len([line for line in caplog.messages if "asks us what we ask it" in line]) == 1
        assert len(other.asked) <= 4


async def test_our_own_address_as_an_upstream_is_noticed() -> None:
    async with forwarding() as here:
        here.configure(DnsConfig(upstreams=(Server(LOCALHOST, here.port),), lookup_timeout=PATIENT))
        for ask in (here.ask, here.ask_over_tcp):
            reply = await ask(query(NAME, edns=opt()))
            assert (reply.rcode, extended_error(reply), reason(reply)) == (2, 22, LOOP.text)
        assert here.responder.queries < 30


@pytest.mark.parametrize("shares", [False, True])
async def test_another_upstream_answers_all_the_same(shares: bool) -> None:
    async with upstream(always(a())) as good, round_trip(good.server, shares=shares) as (here, _):
        assert len((await here.ask(query(NAME))).answer) == 1


async def test_an_alias_whose_target_leads_back_stands_alone() -> None:
    async with round_trip() as (here, _):
        reply = await here.ask(query("outside.shop", edns=opt()))
        assert (reply.rcode, len(reply.answer), reason(reply)) == (0, 1, LOOP.text)


async def test_two_clients_with_one_question_are_no_loop() -> None:
    async with upstream(always(a())) as other:
        free = asyncio.Event()

        async def says(asked: bytes, tcp: bool) -> list[bytes]:
            await free.wait()
            return [reply_to(asked, a())]

        other.says = says
        async with forwarding(other.server) as here:
            asking = [asyncio.create_task(here.ask(query(NAME)))]
            await eventually(lambda: len(other.asked) == 1)
            asking += [asyncio.create_task(here.ask(query(NAME, number=n))) for n in range(4)]
            await eventually(lambda: len(other.asked) == 2)
            free.set()
            assert [reply.rcode for reply in await asyncio.gather(*asking)] == [0] * 5
            assert len(other.questions()) == 1
            assert len(other.asked) == 2, "one probe"


async def test_a_probe_that_comes_back_is_refused() -> None:
    async with forwarding() as here:
        returned = []
        probe = here.responder.probes.send((b"www", b"shop"), "0" * 32, lambda: returned.append(1))
        assert (await here.ask(probe)).rcode == 5
        assert returned == [1]


class TestProbes:
    @pytest.mark.parametrize("name", [(), (b"x",), (b"a" * 63,) * 3 + (b"b" * 61,), (b"x",) * 127])
    def test_are_names_below_the_one_in_question(self, name: tuple[bytes, ...]) -> None:
        probes, returned = Probes(), []
        sent = probes.send(name, "s" * 32, lambda: returned.append(1))
        label, *below = _labels(asked_question(sent))
        assert label.startswith(PREFIX)
        assert len(wire((label, *below))) <= 255
        assert tuple(below) == name[len(name) - len(below) :]
        assert HEADER.unpack_from(sent)[2:] == (1, 0, 0, 0)
        assert not read(b"\0\0\x80\0" + sent[4:]).has_records
        assert probes.is_ours((label.upper(), *below))
        assert not probes.is_ours((PREFIX + b"other", *below))
        assert not probes.is_ours(())
        assert returned == [1]

    def test_are_remembered_up_to_a_bound(self) -> None:
        probes = Probes()
        for number in range(MAX_PROBES + 5):
            probes.send((b"x",), str(number), lambda: None)
        assert len(probes) == MAX_PROBES
        assert not probes.is_ours((PREFIX + b"4",))
        assert probes.is_ours((PREFIX + b"5",))


def _labels(question: bytes) -> list[bytes]:
    labels, offset = [], 0
    while length := question[offset]:
        labels.append(question[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return labels
