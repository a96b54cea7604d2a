"""Settings that another program changes are set again, now and then, and the user is told."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeBackend, eventually
from test_reconcile import WANT, running

from resolverd import contention
from resolverd.contention import MEMORY, PAUSE, Contention
from resolverd.errors import HostError
from resolverd.host import HostDns, Returned


def test_once_is_no_fight_twice_is_and_it_is_forgotten() -> None:
    fight = Contention()
    assert fight.patience(100.0) == 0
    fight.lost(100.0)
    assert (fight.patience(101.0), fight.patience(100.0 + PAUSE)) == (PAUSE - 1, 0)
    assert fight.error("resolverd0", 101.0) is None
    fight.lost(110.0)
    error = fight.error("resolverd0", 111.0)
    assert str(error).startswith("link resolverd0: another program changed its DNS settings 2 times within a minute")
    assert error is not None
    assert error.fix
    assert fight.error("resolverd0", 101.0 + MEMORY) is None


async def test_what_another_program_takes_is_set_again_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "PAUSE", 0.3)
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await eventually(lambda: backend.now == WANT)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(20):
            while len(backend.applied) < 1 + 3:
                if backend.now == WANT:
                    backend.now = HostDns()
                    backend.disturb("another program was here")
                await asyncio.sleep(0.005)
        assert loop.time() - began >= 2 * 0.3
        assert reconciler.trouble is not None
        assert "another program changed" in reconciler.trouble.why
        backend.now = HostDns()
        backend.disturb("once more")
        await eventually(lambda: not reconciler.in_force.is_set())
        await eventually(reconciler.in_force.is_set)
        assert backend.now == WANT


async def test_a_wish_of_our_own_and_a_returned_resolver_wait_for_nobody() -> None:
    backend = FakeBackend()
    other = HostDns(WANT.link, WANT.servers, ("billing",))
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await eventually(lambda: backend.now == WANT)
        backend.now = HostDns()
        backend.disturb("another program was here")
        await eventually(lambda: backend.now == WANT)
        reconciler.want(other)
        await eventually(lambda: backend.now == other, longest=PAUSE / 2)
        for _turn in range(3):
            backend.now = HostDns()
            backend.disturb(Returned("the resolver was restarted"))
            await eventually(lambda: backend.now == other, longest=PAUSE / 2)
        assert reconciler.trouble is None


async def test_what_was_lost_while_the_resolver_was_away_is_nobodys_doing() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await eventually(lambda: backend.now == WANT)
        for _turn in range(2):
            backend.failures.append(HostError("resolver", "gone"))
            backend.now = HostDns()
            backend.disturb("gone")
            await eventually(lambda: backend.now == WANT, longest=PAUSE / 2)
        assert reconciler.trouble is None
