"""What back ends that send single domains to us keep to besides: they can be held to every one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from mac_double import MacDouble

from resolverd.host import HostDns, ResolverBackend, Server
from resolverd_platform.dbus import FastBus
from resolverd_platform.etc_resolver import EtcResolverBackend
from resolverd_platform.resolved import ResolvedBackend
from resolverd_tunnel.device_linux import create_device

pytestmark = pytest.mark.staged

LINK = "rd-test2"
WANT = HostDns(
    LINK, (Server(ip_address("198.18.53.1")),), ("cluster.local", "default", "svc"), ("default.svc.cluster.local",)
)


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

        yield Subject(lambda: EtcResolverBackend(LINK, mac, folder), state)
        return
    device = create_device(LINK)
    changes: list[str] = []

    class Overheard(FastBus):
        async def call(self, call):  # type: ignore[no-untyped-def]
            if call.member.startswith(("Set", "Revert")):
                changes.append(call.member)
            return await super().call(call)

    yield Subject(lambda: ResolvedBackend(LINK, Overheard()), lambda: len(changes))
    device.close()


def same(found: HostDns, want: HostDns) -> bool:
    """The order of routing domains means nothing."""
    return replace(found, routing=tuple(sorted(found.routing))) == replace(want, routing=tuple(sorted(want.routing)))


async def test_what_is_applied_is_in_force_and_reported(subject: Subject) -> None:
    async with subject.fresh() as backend:
        assert not await backend.read()
        assert same((await backend.apply(WANT)).dns, WANT)
        assert same(await backend.read(), WANT)


async def test_what_is_there_already_is_not_touched(subject: Subject) -> None:
    async with subject.fresh() as backend:
        await backend.apply(WANT)
        before = subject.state()
        await backend.apply(WANT)
        assert subject.state() == before
    async with subject.fresh() as another:
        await another.apply(WANT)
        assert subject.state() == before
        await another.apply(replace(WANT, routing=("cluster.local",)))
        assert subject.state() != before


async def test_what_is_no_longer_wanted_goes_and_what_is_new_comes(subject: Subject) -> None:
    other = HostDns(LINK, (Server(ip_address("198.18.53.9"), 5300),), ("cluster.local", "billing"), ())
    async with subject.fresh() as backend:
        await backend.apply(WANT)
        assert same((await backend.apply(other)).dns, other)
        assert same(await backend.read(), other)


async def test_the_empty_wish_and_revert_leave_nothing_also_in_a_fresh_process(subject: Subject) -> None:
    async with subject.fresh() as backend:
        await backend.apply(WANT)
    async with subject.fresh() as fresh:
        assert same(await fresh.read(), WANT)
        await fresh.revert()
        assert await fresh.read() == HostDns()
        await fresh.revert()
        await fresh.apply(WANT)
        assert not (await fresh.apply(HostDns())).dns
        assert await fresh.read() == HostDns()
