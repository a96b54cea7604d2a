"""Garbage goes a little at a time, and what is known is not looked through for it; there is next to none of it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
from dns_cluster import SERIAL, put
from dns_wire import query
from fakes import eventually
from upstream_double import always, forwarding, silence, upstream

from resolverd.cluster.objects import Namespace
from resolverd.dns import tidy, worker
from resolverd.dns.flight import Flight
from resolverd.dns.line import Line
from resolverd.dns.probes import Probes
from resolverd.dns.responder import Responder
from resolverd.dns.upstream import DnsServer, Upstream
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
    monkeypatch.setattr(tidy, "MUCH", -1_000_000)
    thresholds = gc.get_threshold()
    gc.collect()
    yield
    gc.enable()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@asynccontextmanager
async def tidied(asked: Callable[[], int]) -> AsyncIterator[None]:
    tidy.look_at_new_only()
    task = asyncio.create_task(tidy.tidy_for_ever(asked, LOOK))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def tidied_with(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], *, asks: bool
) -> AbstractAsyncContextManager[None]:
    for name, value in limits.items():
        monkeypatch.setattr(tidy, name, value)
    asked = itertools.count()
    return tidied(lambda: next(asked) if asks else 0)


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
    tidy.look_at_new_only()
    made = garbage()
    known: list[list[None]] = [[] for _ in range(FEW // 2)]
    assert made() is not None
    known += [[] for _ in range(FEW)]
    assert made() is None


def test_what_was_seen_once_is_not_looked_at_again() -> None:
    tidy.look_at_new_only()
    known = Node()
    assert is_looked_at(known)
    made = garbage()
    tidy.tidy_new()
    assert (is_looked_at(known), made()) == (False, None)


async def test_what_takes_the_place_of_something_else_is_seen_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python counts what came less what went: nothing, here."""
    monkeypatch.setattr(tidy, "FEW", 1_000_000)
    known = [Node() for _ in range(1000)]
    async with tidied(lambda: 0):
        for _ in range(10):
            known[:] = [Node() for _ in range(1000)]
            await eventually(lambda: not any(isinstance(each, Node) for each in gc.get_objects()))


@pytest.mark.parametrize(
    ("limits", "asks"),
    [({"THOROUGH": 0.05}, False), ({"AT_LATEST": 0.05}, True)],
    ids=["in a quiet moment when it is time", "at last even while somebody asks"],
)
async def test_what_was_overlooked_goes(monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], asks: bool) -> None:
    async with tidied_with(monkeypatch, limits, asks=asks):
        made = overlooked()
        assert made() is not None
        await eventually(lambda: made() is None)


@pytest.mark.parametrize(
    ("limits", "asks"),
    [({}, False), ({"THOROUGH": 0.0, "MUCH": 100_000_000}, False), ({"THOROUGH": 0.0}, True)],
    ids=["before it is time", "where there is little", "while somebody asks"],
)
async def test_it_does_not_go(monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], asks: bool) -> None:
    async with tidied_with(monkeypatch, limits, asks=asks):
        made = overlooked()
        await asyncio.sleep(20 * LOOK)
        assert made() is not None


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


async def test_what_comes_with_a_feed_is_looked_at_once() -> None:
    here = Responder()
    for synced in (False, True):
        namespace = Namespace(f"n{synced}")
        await worker.take_in(here, Feed((put(namespace),), synced, SERIAL))
        assert here.index.snapshot.namespaces[namespace.name] is namespace
        assert not is_looked_at(namespace)


class Errand:
    """Whoever waits for a reply."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def run(self, tcp: bool) -> None:
        await self.upstream.ask(query("a.example"), tcp=tcp)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_question_to_an_upstream_leaves_nothing_to_collect(tcp: bool, is_gone: bool) -> None:
    async with upstream(always()) as other:
        if is_gone:
            other.close()
            await asyncio.sleep(0)
        gc.collect()
        gc.disable()
        before, errands = count(TRANSPORT), []
        for _ in range(5):
            errand = Errand(DnsServer(other.server))
            errands.append(weakref.ref(errand))
            with suppress(ConnectionError):
                await errand.run(tcp)
                assert not is_gone
            del errand
        await eventually(lambda: all(each() is None for each in errands))
        # The double's end of each connection is one of asyncio's streams, which are left to the collector.
        await eventually(lambda: count(TRANSPORT) <= before + (5 if tcp and not is_gone else 0))


async def test_nobody_is_probed_for_a_question_that_has_ended() -> None:
    ended = asyncio.Event()

    class Slow:
        """It takes its time to notice that nobody waits any more."""

        is_near = False

        async def ask(self, query: bytes, *, tcp: bool) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
                await asyncio.sleep(0.05)
            return b""

    before = asyncio.all_tasks()
    flight = Flight((b"example",), query("example"), False, [Slow()], Probes(), set())
    task = asyncio.create_task(flight.run(0.01))
    await ended.wait()
    flight.probe()
    await task
    assert asyncio.all_tasks() == before
