"""Reconciling: the newest wish wins, failures are retried and shown, disturbances lead to another look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from fakes import FakeBackend, eventually

from resolverd import reconcile
from resolverd.errors import HostError
from resolverd.host import Capabilities, HostDns, Server
from resolverd.reconcile import Reconciler

WANT = HostDns("resolverd0", (Server(ip_address("198.18.53.1")),), ("cluster.local",), ())


@asynccontextmanager
async def running(backend: FakeBackend) -> AsyncIterator[tuple[Reconciler, list[Capabilities]]]:
    told: list[Capabilities] = []
    reconciler = Reconciler(backend, told.append)
    task = asyncio.create_task(reconciler.run())
    try:
        yield reconciler, told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_wish_reaches_the_host_once() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        reconciler.want(replace(WANT))
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        assert backend.now == WANT
        assert backend.applied == [WANT]
        await reconciler.revert()
    assert not backend.now


async def test_a_failure_is_shown_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "RETRY_PAUSES", (0.01,))
    backend = FakeBackend(failures=[HostError("bus", "gone", "wait")])
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await eventually(lambda: backend.now == WANT)
        await eventually(reconciler.in_force.is_set)
        assert reconciler.error is None
        assert len(backend.tried) == 2


async def test_the_same_wish_again_is_no_reason_to_set_what_another_program_took() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        backend.now = HostDns()
        reconciler.want(replace(WANT))
        await asyncio.sleep(0.05)
        assert (backend.now, backend.tried) == (HostDns(), [WANT])


async def test_while_it_fails_nothing_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "RETRY_PAUSES", (30.0,))
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        backend.failures.append(HostError("bus", "gone", "wait"))
        reconciler.want(replace(WANT, routing=()))
        await eventually(lambda: reconciler.error is not None)
        assert not reconciler.in_force.is_set()
        assert reconciler.trouble is reconciler.error


def test_a_resolver_that_thaws_is_told_within_three_seconds() -> None:
    """Nobody tells us of it, so that it is a matter of the longest pause."""
    assert max(reconcile.RETRY_PAUSES) < 3


async def test_a_look_that_finds_nothing_new_is_no_news() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, told):
        await reconciler.look()
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        backend.now = HostDns()
        backend.disturb("touched")
        await eventually(lambda: backend.now == WANT)
        assert told == []


async def test_a_disturbance_brings_another_look_and_everything_back() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, told):
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        backend.now, backend.facts = HostDns(), Capabilities("fake", host_search=("corp.test",))
        backend.disturb("restarted")
        await eventually(lambda: backend.now == WANT)
        assert told == [backend.facts]


async def test_what_keeps_us_from_watching_is_told_once_and_watching_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconcile, "RETRY_PAUSES", (0.01,))
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        for _ in range(2):
            backend.disturb(HostError("/etc/resolver", "Input/output error"))
        backend.now = HostDns()
        backend.disturb("touched")
        await eventually(lambda: backend.now == WANT)
    assert caplog.text.count("cannot be watched: /etc/resolver: Input/output error") == 1


async def test_what_nobody_tells_of_is_found_by_looking_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 0.05)
    backend = FakeBackend()
    async with running(backend) as (reconciler, told):
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 5)
        backend.now, backend.facts = HostDns(), Capabilities("fake", host_search=("corp.test",))
        await eventually(lambda: backend.now == WANT)
        assert told == [backend.facts]


async def test_flushes_are_gathered() -> None:
    backend = FakeBackend()
    async with running(backend) as (reconciler, _):
        for _turn in range(20):
            reconciler.flush()
            await asyncio.sleep(0.001)
        assert 1 <= backend.flushes < 20
