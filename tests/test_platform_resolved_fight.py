"""Another program at our link, with the real systemd-resolved: noticed without polling the bus, and not fought."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes import eventually
from test_platform_resolved import LINK, WANT, Overheard, backend, link
from tuns import open_tun, resolvectl

from resolverd import contention, reconcile
from resolverd.reconcile import Reconciler
from resolverd_platform.resolved_saved import SavedSettings

__all__ = ["link"]
pytestmark = pytest.mark.staged


@asynccontextmanager
async def kept() -> AsyncIterator[tuple[Reconciler, Overheard]]:
    """A link that is kept as wanted, by nothing but what is noticed: no look in between."""
    async with backend() as (resolved, bus):
        reconciler = Reconciler(resolved, lambda _: None)
        task = asyncio.create_task(reconciler.run())
        try:
            reconciler.want(WANT)
            await asyncio.wait_for(reconciler.in_force.wait(), 10)
            await eventually(lambda: bus.listens)
            bus.changes()
            yield reconciler, bus
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def domains() -> set[str]:
    return set(resolvectl("domain", LINK).split(":", 1)[1].split())


OURS = {"~cluster.local", "~svc", "~default", "default.svc.cluster.local"}


@pytest.mark.parametrize("tampering", [("revert",), ("domain", "~example.org"), ("llmnr", "yes"), ("dns", "192.0.2.1")])
async def test_what_somebody_changes_is_set_right(link: str, tampering: tuple[str, ...]) -> None:
    async with kept():
        verb, *values = tampering
        await asyncio.to_thread(resolvectl, verb, link, *values)
        shown = ""
        async with asyncio.timeout(10):
            while "-LLMNR" not in shown or domains() != OURS or "198.18.53.1" not in shown:
                await asyncio.sleep(0.05)
                shown = await asyncio.to_thread(resolvectl, "status", link)


async def test_a_program_that_never_gives_in_is_reported_and_not_fought(
    link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contention, "PAUSE", 0.8)
    async with kept() as (reconciler, bus):
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(20):
            while bus.calls.count("SetLinkDomains") < 3:
                await asyncio.to_thread(resolvectl, "domain", link, "~example.org")
                await asyncio.sleep(0.02)
        assert loop.time() - began >= 2 * 0.8
        assert reconciler.trouble is not None
        assert f"link {link}: another program changed" in str(reconciler.trouble)


async def test_nothing_is_called_while_nothing_changes(link: str) -> None:
    async with kept() as (reconciler, bus):
        await asyncio.sleep(0.1)
        bus.calls.clear()
        for _turn in range(100):
            reconciler.want(WANT)
            await asyncio.sleep(0.01)
        assert bus.calls == []


async def test_another_links_settings_are_known_at_once(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 600.0)
    async with kept() as (reconciler, bus):
        other = open_tun("rd-vpn0", "198.18.60.1/24")
        try:
            await asyncio.to_thread(resolvectl, "domain", "rd-vpn0", "~corp.example")
            await eventually(lambda: [o.routing for o in reconciler.capabilities.other_links] == [("corp.example",)])
            assert bus.changes() == []
        finally:
            os.close(other)


async def test_saved_settings_that_are_ours_are_no_news(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    changes = saved.changes()
    told = asyncio.ensure_future(anext(changes))
    with saved.ours():
        (tmp_path / "3").touch()
        await asyncio.sleep(0.6)
    await asyncio.sleep(0.6)
    assert not told.done()
    (tmp_path / "4").touch()
    assert await asyncio.wait_for(told, 10) == "the settings of a link were changed"
    await changes.aclose()
