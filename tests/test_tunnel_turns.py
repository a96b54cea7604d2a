"""Many connections to one pod at once: some at a time, and those to other pods beside them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from fakes import eventually

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd_tunnel import turns as queueing
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.port_forward_stream import PortForwardStream
from resolverd_tunnel.transport import NoWayError, TransportError
from resolverd_tunnel.turns import Turns

ECHO, WEB = Target("shop", "echo-1", 7007), Target("shop", "web-1", 8080)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "MOST", 2)


async def test_each_pod_has_a_queue_while_there_is_somebody_in_it() -> None:
    turns, leave = Turns(), asyncio.Event()
    inside: Counter[str] = Counter()

    async def one(pod: str) -> None:
        async with turns.turn(pod):
            inside[pod] += 1
            await leave.wait()

    tasks = [asyncio.create_task(one(pod)) for pod in ("a", "a", "a", "a", "b")]
    await eventually(lambda: inside.total() == 3)
    assert inside == {"a": 2, "b": 1}
    tasks[3].cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == {"a": 3, "b": 1}
    assert len(turns) == 0


async def test_who_has_waited_is_told_that_there_is_no_way_and_nobody_later() -> None:
    turns, leave = Turns(), asyncio.Event()
    found: list[str] = []

    async def one(error: Exception | None) -> None:
        try:
            async with turns.turn("a"):
                await leave.wait()
                if error:
                    raise error
                found.append("a way")
        except (NoWayError, TransportError) as told:
            found.append(str(told))

    gone, moody = NoWayError("port-forward", "it is gone"), TransportError("port-forward", "it is moody")
    tasks = [asyncio.create_task(one(error)) for error in (gone, gone, None)]
    await asyncio.sleep(0)
    leave.set()
    later = asyncio.create_task(asyncio.sleep(0.01, one(None)))
    await asyncio.gather(*tasks)
    await (await later)
    assert found == ["port-forward: it is gone"] * 3 + ["a way"]
    found.clear()
    await asyncio.gather(*(one(error) for error in (moody, moody, None)))
    assert found == ["port-forward: it is moody"] * 2 + ["a way"], "others may fare better"


async def test_everybody_gets_a_stream_and_a_pod_that_hangs_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with DemoCluster() as cluster:
        transport = PortForward(Access(cluster.server), lambda: None)
        streams = await asyncio.gather(*(transport.open(ECHO) for _ in range(9)))
        await asyncio.gather(*(stream.close() for stream in streams))
        on, anew, begun = asyncio.Event(), transport._anew, list[Target]()

        async def hang(target: Target) -> PortForwardStream:
            begun.append(target)
            if target == WEB:
                await on.wait()
            return await anew(target)

        monkeypatch.setattr(transport, "_anew", hang)
        hanging = [asyncio.create_task(transport.open(WEB)) for _ in range(3)]
        await eventually(lambda: begun == [WEB, WEB])
        stream = await transport.open(ECHO)
        on.set()
        await stream.close()
        for one in await asyncio.gather(*hanging):
            await one.close()
        await transport.close()
