"""What every back end keeps to, whatever it programs: each of them runs these, on the real thing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from lan_double import lan_host
from mac_double import MacDouble
from tuns import open_tun

from resolverd.errors import HostError
from resolverd.host import HostDns, ResolverBackend, Server
from resolverd_platform.dbus import FastBus
from resolverd_platform.etc_resolver import EtcResolverBackend
from resolverd_platform.none import NoneBackend
from resolverd_platform.override import OverrideBackend
from resolverd_platform.resolved import ResolvedBackend
from resolverd_tunnel.device_linux import create_device

pytestmark = pytest.mark.staged

LINK = "rd-test0"
SERVER = Server(ip_address("198.18.53.1"))
WANT = HostDns(LINK, (SERVER,), ("cluster.local", "svc"), ("default.svc.cluster.local",))
Make = Callable[[], ResolverBackend]


async def _no_nft(mark: int) -> str:
    return "not here"


@contextmanager
def _link() -> Iterator[None]:
    descriptor = open_tun(LINK, "198.18.53.1/32")
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.fixture(
    scope="module", params=["none", "systemd-resolved", "etc-resolver", "override by nftables", "override by file"]
)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which back end, on a host that suits it."""
    with lan_host() if request.param.startswith("override") else _link():
        yield request.param


@pytest.fixture
def make(kind: str, tmp_path: Path) -> Make:
    """Makes a back end as a fresh process would."""
    mac = MacDouble(tmp_path / "resolver")
    makers: dict[str, Make] = {
        "none": lambda: NoneBackend(LINK),
        "etc-resolver": lambda: EtcResolverBackend(LINK, mac, tmp_path / "resolver"),
        "systemd-resolved": lambda: ResolvedBackend(LINK, FastBus()),
        "override by nftables": lambda: OverrideBackend("", tmp_path),
        "override by file": lambda: OverrideBackend("", tmp_path, why_not_nft=_no_nft),
    }
    return makers[kind]


async def test_applied_read_and_reverted(make: Make) -> None:
    async with AsyncExitStack() as stack:
        backend = make()
        stack.push_async_callback(backend.close)
        stack.push_async_callback(backend.revert)
        assert not await backend.read()
        facts = await backend.capabilities()
        assert facts.backend == backend.name
        reached = (await backend.apply(WANT)).dns
        assert set(reached.routing) <= set(WANT.routing)
        assert set(reached.search) <= set(WANT.search)
        assert (await backend.read()).servers == reached.servers
        assert (await backend.apply(WANT)).dns == reached
        assert await backend.capabilities() == facts, "what we did is taken for the host's own"
        await backend.flush()
        assert not (await backend.apply(HostDns())).dns
        assert not await backend.read()
        await backend.revert()
        await backend.revert()
        assert not await backend.read()


async def test_a_fresh_process_takes_back(make: Make) -> None:
    first, fresh = make(), make()
    await first.apply(WANT)
    # What only the first one's life keeps is none of the fresh one's business.
    await fresh.revert()
    assert not await fresh.read()
    await first.revert()
    await first.close()
    await fresh.close()


@pytest.mark.parametrize("name", ["", ".", "*.example", "a b", "evil\nnameserver 192.0.2.66"])
async def test_no_name_that_is_no_domain_reaches_the_host(make: Make, name: str) -> None:
    backend = make()
    with pytest.raises(HostError, match="is no domain") if backend.name != "none" else nullcontext():
        await backend.apply(replace(WANT, search=(name,)))
    assert not await backend.read()
    await backend.close()


async def test_disturbances_wait_and_can_be_given_up(make: Make) -> None:
    backend = make()
    await backend.apply(WANT)
    told = asyncio.ensure_future(anext(backend.disturbances()))
    done, _ = await asyncio.wait([told], timeout=0.7)
    assert not done, "nothing has happened"
    told.cancel()
    await asyncio.gather(told, return_exceptions=True)
    await backend.revert()
    await backend.close()


# Those that send single domains to us, and so can be held to every one of them.

SPLIT_LINK = "rd-test2"
SPLIT = HostDns(SPLIT_LINK, (SERVER,), ("cluster.local", "default", "svc"), ("default.svc.cluster.local",))


@dataclass
class Subject:
    """A back end to be tested, and what tells that it changed something."""

    make: Callable[[], ResolverBackend]
    """A fresh one, as in a fresh process."""
    state: Callable[[], object]
    """Something that is another after every change to the host, even one to the same."""

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[ResolverBackend]:
        made = self.make()
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture(params=["etc-resolver", "systemd-resolved"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "etc-resolver":
        folder = tmp_path / "resolver"
        mac = MacDouble(folder)

        def state() -> object:
            return [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*")]

        yield Subject(lambda: EtcResolverBackend(SPLIT_LINK, mac, folder), state)
        return
    device = create_device(SPLIT_LINK)
    changes: list[str] = []

    class Overheard(FastBus):
        async def call(self, call):  # type: ignore[no-untyped-def]
            if call.member.startswith(("Set", "Revert")):
                changes.append(call.member)
            return await super().call(call)

    yield Subject(lambda: ResolvedBackend(SPLIT_LINK, Overheard()), lambda: len(changes))
    device.close()


def same(found: HostDns, want: HostDns) -> bool:
    """The order of routing domains means nothing."""
    return replace(found, routing=tuple(sorted(found.routing))) == replace(want, routing=tuple(sorted(want.routing)))


async def test_what_is_applied_is_in_force_and_reported(subject: Subject) -> None:
    async with subject.fresh() as backend:
        assert not await backend.read()
        assert same((await backend.apply(SPLIT)).dns, SPLIT)
        assert same(await backend.read(), SPLIT)


async def test_what_is_there_already_is_not_touched(subject: Subject) -> None:
    async with subject.fresh() as backend:
        await backend.apply(SPLIT)
        before = subject.state()
        await backend.apply(SPLIT)
        assert subject.state() == before
    async with subject.fresh() as another:
        await another.apply(SPLIT)
        assert subject.state() == before
        await another.apply(replace(SPLIT, routing=("cluster.local",)))
        assert subject.state() != before


async def test_what_is_no_longer_wanted_goes_and_what_is_new_comes(subject: Subject) -> None:
    other = HostDns(SPLIT_LINK, (Server(ip_address("198.18.53.9"), 5300),), ("cluster.local", "billing"), ())
    async with subject.fresh() as backend:
        await backend.apply(SPLIT)
        assert same((await backend.apply(other)).dns, other)
        assert same(await backend.read(), other)


async def test_the_empty_wish_and_revert_leave_nothing_also_in_a_fresh_process(subject: Subject) -> None:
    async with subject.fresh() as backend:
        await backend.apply(SPLIT)
    async with subject.fresh() as fresh:
        assert same(await fresh.read(), SPLIT)
        await fresh.revert()
        assert await fresh.read() == HostDns()
        await fresh.revert()
        await fresh.apply(SPLIT)
        assert not (await fresh.apply(HostDns())).dns
        assert await fresh.read() == HostDns()
