"""Garbage goes a little at a time, and what is known is not looked through for it; there is next to none of it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from dns_cluster import SERIAL, put
from dns_wire import query
from fakes import eventually
from upstream_double import always, forwarding, silence, upstream

from resolverd.cluster.objects import Namespace
from resolverd.dns import tidy, worker
from resolverd.dns.flight import Flight
from resolverd.dns.line import Line
from resolverd.dns.responder import Responder
from resolverd.feed import Feed

LOOK = 0.01
FEW = 1000


class Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As it was, in the end: it is one for all tests."""
    monkeypatch.setattr(tidy, "FEW", FEW)
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    gc.collect()
    yield
    gc.enable()
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


@asynccontextmanager
async def tidied(asked: Callable[[], int]) -> AsyncIterator[None]:
    tidy.begin()
    task = asyncio.create_task(tidy.tidy_all(asked, LOOK))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def garbage() -> weakref.ref[Node]:
    return weakref.ref(Node())


def overlooked() -> weakref.ref[Node]:
    """Garbage that was in use when the collector looked."""
    node = Node()
    tidy.tidy_new()
    return weakref.ref(node)


def is_looked_at(thing: object) -> bool:
    return any(each is thing for each in gc.get_objects())


def test_new_garbage_goes_when_enough_has_come() -> None:
    tidy.begin()
    made = garbage()
    known: list[list[None]] = [[] for _ in range(FEW // 2)]
    assert made() is not None
    known += [[] for _ in range(FEW)]
    assert made() is None


def test_what_was_seen_once_is_not_looked_at_again() -> None:
    tidy.begin()
    known = Node()
    assert is_looked_at(known)
    made = garbage()
    tidy.tidy_new()
    assert (is_looked_at(known), made()) == (False, None)


def test_beginning_twice_is_beginning_once() -> None:
    before = len(gc.callbacks)
    tidy.begin()
    tidy.begin()
    assert len(gc.callbacks) == before + 1


async def test_what_was_overlooked_goes_in_a_quiet_moment_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "THOROUGH", 0.05)
    async with tidied(lambda: 0):
        made = overlooked()
        assert made() is not None
        await eventually(lambda: made() is None)


async def test_not_before() -> None:
    async with tidied(lambda: 0):
        made = overlooked()
        await asyncio.sleep(20 * LOOK)
        assert made() is not None


async def test_nor_while_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "THOROUGH", 0.0)
    asked = itertools.count()
    async with tidied(lambda: next(asked)):
        made = overlooked()
        await asyncio.sleep(20 * LOOK)
        assert made() is not None


async def test_but_at_last_even_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "AT_LATEST", 0.05)
    asked = itertools.count()
    async with tidied(lambda: next(asked)):
        made = overlooked()
        await eventually(lambda: made() is None)


def count(kind: str) -> int:
    return sum(type(each).__name__ == kind for each in gc.get_objects())


TRANSPORT = "_SelectorSocketTransport"


async def test_a_client_s_connection_leaves_nothing_to_collect() -> None:
    async with forwarding() as here:
        gc.collect()
        gc.disable()
        before = count(TRANSPORT)
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with socket.socket() as end:
                end.setblocking(False)
                await loop.sock_connect(end, ("127.0.0.1", here.port))
                asked = query("web.shop.svc.cluster.local")
                await loop.sock_sendall(end, struct.pack("!H", len(asked)) + asked)
                assert await loop.sock_recv(end, 2)
        await eventually(lambda: count(TRANSPORT) <= before)


async def test_a_line_to_a_server_leaves_nothing_to_collect() -> None:
    async with upstream(always()) as other:
        gc.collect()
        gc.disable()
        transports, lines = count(TRANSPORT), count("_Line")
        line = Line()
        assert await line.ask("127.0.0.1", other.port, query("a.example"))
        line.close()
        del line
        await eventually(lambda: count("_Line") <= lines)
        # The double's end is one of asyncio's streams, which are left to the collector.
        await eventually(lambda: count(TRANSPORT) <= transports + 1)


async def test_a_question_that_nobody_answered_leaves_nothing_to_collect() -> None:
    async with upstream(silence) as one, forwarding(one.server, within=0.2) as here:
        gc.collect()
        gc.disable()
        before = count(Flight.__name__)
        for number in range(3):
            assert (await here.ask(query(f"{number}.example.com"))).rcode == 2
        here.responder.probes._sent.clear()  # which remember who is to be told when one of them comes round
        await eventually(lambda: count(Flight.__name__) <= before)


async def test_a_feed_that_is_folded_is_looked_at_once_the_lists_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    here = Responder()
    monkeypatch.setattr(worker, "tidy_new", lambda: looks.append(here.index.snapshot.synced))
    for synced in (False, True, True):
        await worker.take_in(here, Feed((put(Namespace(f"n{len(looks)}")),), synced, SERIAL))
    assert looks == [True]
