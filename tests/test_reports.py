"""What the workers say of themselves, while several ask at once."""

from __future__ import annotations

import asyncio

import pytest

from resolverd import reports
from resolverd.feed import Ask, Report
from resolverd.reports import Reports
from resolverd.workers import Worker


def worker(name: str) -> Worker:
    """One that serves; what it is told stays in its outbox."""
    one = Worker(name, "", {}, list, lambda _: None)
    one.ready.set()
    return one


async def test_who_answers_one_is_not_called_silent_because_another_asks_meanwhile() -> None:
    told, both = Reports(), (worker("dns"), worker("tunnel"))
    first = asyncio.create_task(told.ask(both))
    await asyncio.sleep(0)
    assert all(Ask in each.outbox.values for each in both)
    told.take(Report("dns", {"queries": 1}))
    second = asyncio.create_task(told.ask(both))
    await asyncio.sleep(0)
    told.take(Report("tunnel", {"state": "ready"}))
    assert await first == frozenset()
    told.take(Report("dns", {"queries": 2}))
    assert await second == frozenset()
    assert (told.dns, told.tunnel) == ({"queries": 2}, {"state": "ready"})


async def test_who_does_not_answer_is_named_and_who_is_not_there_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "ASK_DEADLINE", 0.01)
    told, (dns, tunnel) = Reports(), (worker("dns"), worker("tunnel"))
    assert await told.ask((dns, tunnel)) == {"dns", "tunnel"}
    tunnel.ready.clear()
    assert await told.ask((dns, tunnel)) == {"dns"}
