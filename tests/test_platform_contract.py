"""What every back end keeps to, whatever it programs: each of them runs these, on the real thing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import replace
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
