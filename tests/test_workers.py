"""Worker processes: told everything, told anew after a death, ended with their daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

from resolverd import workers
from resolverd.channel import Channel
from resolverd.cluster.objects import Namespace
from resolverd.cluster.snapshot import Change, Kind
from resolverd.errors import HostError
from resolverd.feed import Feed, Report
from resolverd.workers import MOST_TURNS, Outbox, Worker


def change(name: str, *, gone: bool = False) -> Change:
    return Change(Kind.NAMESPACE, ("", name), None if gone else Namespace(name))


@asynccontextmanager
async def running(
    greeting: list[Any], monkeypatch: pytest.MonkeyPatch, kept: tuple[int, ...] = ()
) -> AsyncIterator[tuple[Worker, list[Any]]]:
    tests = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", tests)
    told: list[Any] = []

    def on_message(message: Any) -> None:
        if isinstance(message, Report):
            told.append(message.values)

    worker = Worker("double", "worker_double", {}, lambda: greeting, on_message, kept=kept)
    task = asyncio.create_task(worker.run())
    try:
        yield worker, told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_hears_the_greeting_then_the_news_and_ends_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(["hello"], monkeypatch) as (worker, told):
        await eventually(lambda: len(told) == 1)
        assert worker.ready.is_set()
        worker.tell("news")
        await eventually(lambda: len(told) == 2)
        assert [values["told"] for values in told] == ["hello", "news"]
        pid = told[0]["pid"]
    assert not alive(pid)


async def test_it_keeps_what_it_is_given_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    async with running(["hello"], monkeypatch, (write,)) as (_, told):
        await eventually(lambda: len(told) == 1)
        os.close(write)
        assert select.select([read], [], [], 0) == ([], [], [])
    assert select.select([read], [], [], 5) == ([read], [], [])
    os.close(read)


async def test_a_dead_worker_is_started_again_and_told_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RESTART_PAUSES", (0.01,))
    async with running(["hello"], monkeypatch) as (worker, told):
        await eventually(lambda: len(told) == 1)
        worker.tell("die")
        await eventually(lambda: len(told) == 2)
        assert [values["told"] for values in told] == ["hello", "hello"]
        assert told[0]["pid"] != told[1]["pid"]
        assert worker.restarts == 1


async def test_one_that_had_served_is_started_again_at_once_however_often_it_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "RESTART_PAUSES", (0.01, 60.0))
    monkeypatch.setattr(workers, "STEADY", 0.1)
    async with running(["hello"], monkeypatch) as (worker, told):
        for restarts in range(1, 4):
            await eventually(lambda restarts=restarts: len(told) == restarts)  # type: ignore[misc]
            await asyncio.sleep(0.2)
            os.kill(told[-1]["pid"], signal.SIGKILL)
            await eventually(lambda restarts=restarts: worker.restarts == restarts)  # type: ignore[misc]
        await eventually(lambda: len(told) == 4)


async def test_one_that_dies_at_once_is_given_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "RESTART_PAUSES", (0.01, 0.02, 60.0))
    async with running(["die"], monkeypatch) as (worker, _):
        await eventually(lambda: worker.restarts == 3)
    assert [line.rpartition(" in ")[2] for line in caplog.messages] == ["0.01 s", "0.02 s", "60 s"]


@pytest.mark.parametrize("turns", range(6))
async def test_an_order_to_stop_that_comes_with_the_end_of_the_process_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """The process ends, and ``turns`` turns of the loop later the daemon is to end, too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    ended = asyncio.Event()

    async def receive(worker: Worker, channel: Channel) -> None:
        ended.set()

    monkeypatch.setattr(Worker, "_receive", receive)
    task = asyncio.create_task(Worker("double", "worker_double", {}, lambda: ["hello"], lambda _: None).run())
    await ended.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "RESTART_PAUSES", (0.01,))
    start, refused = asyncio.create_subprocess_exec, iter([errno.EAGAIN, errno.ENOMEM])

    async def sometimes(*command: Any, **options: Any) -> Any:
        if number := next(refused, 0):
            raise OSError(number, os.strerror(number))
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", sometimes)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    async with running(["hello"], monkeypatch) as (worker, told):
        await eventually(lambda: len(told) == 1)
        assert worker.restarts == 2
    assert "the double process cannot be started: Cannot allocate memory; starting it again in 0.01 s" in caplog.text
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


async def test_a_large_feed_comes_in_parts_and_is_in_step_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PART", 2)
    feed = Feed(tuple(change(name) for name in "abcde"), True, 1)
    async with running([feed], monkeypatch) as (worker, told):
        await eventually(lambda: len(told) == 3)
        assert [(values["told"], values["synced"]) for values in told] == [(2, False), (2, False), (1, True)]
        worker.tell(Feed((change("f"), change("g"), change("h")), True, 2))
        worker.tell(Feed((change("f", gone=True),), True, 3))
        await eventually(lambda: len(told) == 5)
        assert [(values["told"], values["synced"]) for values in told[3:]] == [(2, True), (1, True)]
        worker.tell(Feed((), True, 4))
        await eventually(lambda: len(told) == 6)
        assert told[5]["told"] == 0


async def test_a_worker_that_gives_up_says_why_and_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    worker = Worker("double", "worker_double", {}, lambda: ["give up"], lambda _: None)
    with pytest.raises(HostError, match="cannot go on"):
        await asyncio.wait_for(worker.run(), 20)


async def test_in_the_outbox_nothing_overtakes_what_was_told_before() -> None:
    """What is followed no more must not be denied, which is told first, nor what is not yet followed."""
    outbox = Outbox()
    added, removed = Feed((change("a"),), True, 1), Feed((change("a", gone=True),), True, 2)
    for value in (added, "narrow", removed, "wide", "wider"):
        outbox.put(value)
    assert await outbox.take() == [added, "narrow", removed, "wider"]
    for value in ("wide", removed, "narrow", added):
        outbox.put(value)
    assert await outbox.take() == ["wide", removed, "narrow", added]
    for number in range(100):
        outbox.put(added)
        outbox.put(number)
    taken = await outbox.take()
    assert (len(taken), taken[-1]) == (2 * MOST_TURNS + 2, 99)


async def test_the_outbox_keeps_the_newest_of_each() -> None:
    outbox = Outbox()
    outbox.put(Feed((change("a"), change("b")), False, 1))
    outbox.put(Feed((change("a", gone=True), change("c")), True, 2))
    outbox.put("old")
    outbox.put("new")
    feed, text = await outbox.take()
    assert text == "new"
    assert (feed.synced, feed.serial) == (True, 2)
    assert set(feed.changes) == {change("a", gone=True), change("b"), change("c")}
