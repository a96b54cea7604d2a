"""The back end ``systemd-resolved`` against the real one: its bus, a TUN link, private namespaces."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from conftest import ResolvedService
from fakes import eventually
from tuns import open_tun, resolvectl

from resolverd.errors import HostError
from resolverd.host import HostDns, OtherLink, Server
from resolverd_platform.dbus import BUS, BUS_PATH, Call, FastBus
from resolverd_platform.dbus_pydbus import PyBus, system_bus
from resolverd_platform.detect import choose
from resolverd_platform.resolved import ResolvedBackend

pytestmark = pytest.mark.staged

LINK, OTHER = "rd-test0", "rd-test1"
WANT = HostDns(
    LINK, (Server(ip_address("198.18.53.1")),), ("cluster.local", "svc", "default"), ("default.svc.cluster.local",)
)


class Calls:
    """What was called."""

    calls: list[str]

    def noted(self, call: Call) -> Call:
        self.calls.append(call.member)
        return call

    def changes(self) -> list[str]:
        """The calls since the last look that change something."""
        seen, self.calls = self.calls, []
        return [member for member in seen if member.startswith(("Set", "Flush", "Revert"))]

    @property
    def listens(self) -> bool:
        """Whether the bus has been told of both signals: the one library calls for it, the other calls then."""
        return self.calls.count("AddMatch") == 2 or "GetId" in self.calls


class OverheardFast(Calls, FastBus):
    def __init__(self, deadline: float = 2.0) -> None:
        super().__init__(deadline=deadline)
        self.calls = []

    async def call(self, call: Call) -> tuple[Any, ...]:
        return await FastBus.call(self, self.noted(call))


class OverheardPydbus(Calls, PyBus):
    def __init__(self, deadline: float = 2.0) -> None:
        super().__init__(deadline=deadline)
        self.calls = []

    async def call(self, call: Call) -> tuple[Any, ...]:
        return await PyBus.call(self, self.noted(call))


Overheard = OverheardFast | OverheardPydbus
"""The real bus."""
LIBRARIES: dict[str, type[Overheard]] = {"dbus-fast": OverheardFast, "pydbus": OverheardPydbus}
chosen: ContextVar[str] = ContextVar("chosen", default="dbus-fast")
"""The library that ``backend`` takes."""


@pytest.fixture(params=LIBRARIES, autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is the contract of each library."""
    name: str = request.param
    if name == "pydbus":
        request.getfixturevalue("pydbus_loaded")
    token = chosen.set(name)
    yield name
    chosen.reset(token)


@pytest.fixture
def link() -> Iterator[str]:
    descriptor = open_tun(LINK, "198.18.53.1/32")
    yield LINK
    os.close(descriptor)


@asynccontextmanager
async def backend(deadline: float = 2.0) -> AsyncIterator[tuple[ResolvedBackend, Overheard]]:
    bus = LIBRARIES[chosen.get()](deadline)
    made = ResolvedBackend(LINK, bus)
    try:
        yield made, bus
    finally:
        await made.close()


async def test_the_link_is_set_up_read_back_left_alone_and_cleared(link: str) -> None:
    async with backend() as (resolved, bus):
        assert (await resolved.apply(WANT)).dns == WANT
        assert bus.changes() == [
            *("SetLinkDefaultRoute", "SetLinkDNSEx", "SetLinkDomains", "SetLinkLLMNR", "SetLinkMulticastDNS"),
            *("SetLinkDNSSEC", "SetLinkDNSOverTLS", "FlushCaches"),
        ]
        assert await resolved.read() == WANT
        assert (await resolved.apply(WANT)).dns == WANT
        assert bus.changes() == []
        shown = resolvectl("status", link)
        assert "-DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no" in shown
        assert "DNS Servers: 198.18.53.1\n" in shown
        assert "DNS Domain: default.svc.cluster.local ~cluster.local ~svc ~default\n" in shown
        await resolved.revert()
        await resolved.revert()
        assert await resolved.read() == HostDns()
        assert "cluster.local" not in resolvectl("status", link)


async def test_only_what_differs_is_changed(link: str) -> None:
    async with backend() as (resolved, bus):
        await resolved.apply(WANT)
        bus.changes()
        more = replace(WANT, routing=(*WANT.routing, "billing"))
        await resolved.apply(more)
        assert bus.changes() == ["SetLinkDefaultRoute", "SetLinkDomains", "FlushCaches"]
        await resolved.apply(replace(more, routing=tuple(reversed(more.routing))))
        assert bus.changes() == [], "the order of routing domains means nothing"
        resolvectl("llmnr", link, "yes")
        resolvectl("default-route", link, "yes")
        await resolved.apply(more)
        assert bus.changes() == ["SetLinkDefaultRoute", "SetLinkLLMNR", "FlushCaches"]


async def test_the_empty_wish_clears_the_link_and_a_fresh_process_can_too(link: str) -> None:
    async with backend() as (resolved, _):
        await resolved.apply(WANT)
    async with backend() as (fresh, bus):
        assert await fresh.read() == WANT
        await fresh.apply(WANT)
        assert bus.changes() == []
        assert not (await fresh.apply(HostDns())).dns
        assert await fresh.read() == HostDns()


async def test_another_port_and_ipv6_are_kept(link: str) -> None:
    want = replace(WANT, servers=(Server(ip_address("198.18.53.1"), 5300), Server(ip_address("fd00:53::1"))))
    async with backend() as (resolved, bus):
        await resolved.apply(want)
        assert await resolved.read() == want
        bus.changes()
        await resolved.apply(want)
        assert bus.changes() == []


async def test_too_many_domains_are_cut_and_said(link: str) -> None:
    async with backend() as (resolved, _):
        limit = (await resolved.capabilities()).domain_limit
        assert limit in (32, 256, 1024)
        applied = await resolved.apply(replace(WANT, routing=tuple(f"ns-{number}" for number in range(limit + 9))))
        assert len(applied.dns.routing) == limit - 1
        assert applied.notes == (f"this systemd-resolved takes {limit} domains a link; the rest was left out",)
        assert await resolved.read() == applied.dns


async def test_a_limit_lower_than_thought_is_learnt(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with backend() as (resolved, _):
        true_limit = (await resolved.capabilities()).domain_limit
        if true_limit == 1024:
            pytest.skip("this systemd-resolved has the highest limit there is")
        monkeypatch.setattr(resolved, "_limit", 1024)
        applied = await resolved.apply(replace(WANT, routing=tuple(f"ns-{number}" for number in range(1000))))
        assert len(applied.dns.routing) == true_limit - 1
        assert (await resolved.capabilities()).domain_limit == true_limit


ODD = ["", ".", "*.example", "a b", "~.", "a..b", ".a", "-a", "münchen", "A", "a" * 64, ".".join(["a" * 63] * 4)]


@pytest.mark.parametrize("name", ODD)
async def test_no_name_that_takes_everything_reaches_the_bus(link: str, name: str) -> None:
    async with backend() as (resolved, bus):
        with pytest.raises(HostError, match=r"link domains: .* is no domain that may be routed"):
            await resolved.apply(replace(WANT, routing=("svc", name)))
        assert bus.calls == []
        assert await resolved.read() == HostDns()


async def test_what_other_links_have_is_known(link: str) -> None:
    other = open_tun(OTHER, "198.18.54.1/24")
    try:
        resolvectl("dns", OTHER, "198.18.54.53")
        resolvectl("domain", OTHER, "~corp.example", "office.example", "~.")
        async with backend() as (resolved, _):
            await resolved.apply(WANT)
            found = await resolved.capabilities()
        assert found.other_links == (OtherLink(OTHER, ("corp.example", "."), ("office.example",)),)
        assert ip_address("198.18.54.53") in found.nameservers
        assert WANT.servers[0].address not in found.nameservers
        assert [str(subnet.network) for subnet in found.subnets if subnet.link == OTHER] == ["198.18.54.0/24"]
    finally:
        os.close(other)


@asynccontextmanager
async def listening(resolved: ResolvedBackend, bus: Overheard) -> AsyncIterator[AsyncGenerator[str, None]]:
    """The disturbances, from now on: whoever only asks for the first one is not yet heard by the bus."""
    told = resolved.disturbances()
    first = asyncio.ensure_future(anext(told))

    async def all_of_it() -> AsyncGenerator[str, None]:
        yield await first
        async for reason in told:
            yield reason

    try:
        await eventually(lambda: bus.listens)
        await bus.call(Call(BUS, BUS_PATH, BUS, "GetId"))
        yield all_of_it()
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await told.aclose()


async def test_a_restart_of_resolved_is_seen_and_survived(link: str, resolved_service: ResolvedService) -> None:
    async with backend() as (resolved, bus), listening(resolved, bus) as told:
        await resolved.apply(WANT)
        await asyncio.to_thread(resolved_service.stop)
        assert await asyncio.wait_for(anext(told), 10) == "systemd-resolved has stopped"
        with pytest.raises(HostError, match=r"systemd-resolved: not running .*--backend none"):
            await resolved.apply(WANT)
        await asyncio.to_thread(resolved_service.start)
        assert await asyncio.wait_for(anext(told), 10) == "systemd-resolved was started"
        assert (await resolved.apply(WANT)).dns == WANT
        assert await resolved.read() == WANT


async def test_a_crash_of_resolved_is_seen_and_survived(link: str, resolved_service: ResolvedService) -> None:
    async with backend() as (resolved, bus), listening(resolved, bus) as told:
        await resolved.apply(WANT)
        os.kill(resolved_service.pid, signal.SIGKILL)
        assert await asyncio.wait_for(anext(told), 10) == "systemd-resolved has stopped"
        await asyncio.to_thread(resolved_service.restart)
        assert await asyncio.wait_for(anext(told), 10) == "systemd-resolved was started"
        assert (await resolved.apply(WANT)).dns == WANT


async def test_another_program_changing_our_link_is_seen_and_we_ourselves_are_not(link: str) -> None:
    async with backend() as (resolved, bus), listening(resolved, bus) as told:
        await resolved.apply(WANT)
        await resolved.apply(replace(WANT, servers=(Server(ip_address("198.18.53.2")),)))
        await asyncio.to_thread(resolvectl, "revert", link)
        assert await asyncio.wait_for(anext(told), 10) == f"the DNS servers of {link} were changed"


async def test_a_frozen_resolved_costs_the_deadline_and_blocks_nothing(
    link: str, resolved_service: ResolvedService
) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async with backend(deadline=0.3) as (resolved, _):
        await resolved.apply(WANT)
        os.kill(resolved_service.pid, signal.SIGSTOP)
        ticking = asyncio.create_task(tick())
        try:
            with pytest.raises(HostError, match=r"systemd-resolved: no answer to GetLink within 0.3 s \(.*restart"):
                await asyncio.wait_for(resolved.apply(WANT), 20)
        finally:
            ticking.cancel()
            os.kill(resolved_service.pid, signal.SIGCONT)
        assert ticks > 5
        assert (await resolved.apply(WANT)).dns == WANT


async def test_a_link_that_is_gone_is_an_error_to_apply_and_nothing_to_revert() -> None:
    async with backend() as (resolved, _):
        descriptor = open_tun(LINK, "198.18.53.1/32")
        await resolved.apply(WANT)
        os.close(descriptor)
        with pytest.raises(HostError, match=f"link {LINK}: it does not exist"):
            await resolved.apply(WANT)
        assert await resolved.read() == HostDns()
        await resolved.revert()


async def test_it_is_found_here(link: str, library: str) -> None:
    resolved, reason = await choose("auto", link, system_bus({"RESOLVERD_DBUS": library}))
    assert (resolved.name, reason) == ("systemd-resolved", "systemd-resolved is on the system bus")
    assert (await resolved.capabilities()).bus == library
    await resolved.close()
