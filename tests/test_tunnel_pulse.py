"""Finding out that the way is dead: soon, and never about streams that are merely quiet."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from commands import shell
from fakes import eventually
from tunnel_rig import QUICK_PULSE, rig

from resolverd.cluster import access
from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd_tunnel import pulse as pulsing
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.pulse import Pulse
from resolverd_tunnel.transport import MAX_SEND, StreamBrokenError

ECHO = Target("shop", "echo-1", 7007)
LONGEST = (
    pulsing.PAUSE + pulsing.INTERVAL + 2 * pulsing.PATIENCE,
    pulsing.UNACKNOWLEDGED_LIMIT + pulsing.PAUSE + pulsing.INTERVAL,
)
"""Seconds until silence, and what nobody acknowledges, end a stream."""
WAY = "nft add table inet way; nft add chain inet way in '{ type filter hook input priority 0; }'"


@dataclass(eq=False)
class FakeStream:
    """Answers pings, or not."""

    answers: bool = True
    stuck: bool = False
    heard: float = 0.0
    pings: int = 0
    why: str = ""

    def is_stuck(self, limit: float) -> bool:
        return self.stuck

    def heard_since(self, moment: float) -> bool:
        return self.heard >= moment

    async def ping(self) -> None:
        self.pings += 1
        if self.answers:
            self.heard = asyncio.get_running_loop().time()

    def fail(self, why: str) -> None:
        self.why = why


@dataclass
class Scene:
    """An API server that answers with ``says``, until it has been ``deaf`` enough."""

    streams: list[FakeStream] = field(default_factory=list)
    says: str = ""
    deaf: int = 0
    """Questions that get no answer."""
    asked: int = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.deaf:
            self.deaf -= 1
            await asyncio.Event().wait()
        return self.says


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "staged" in request.keywords:
        return
    for name in ("INTERVAL", "PATIENCE", "PAUSE"):
        monkeypatch.setattr(pulsing, name, 0.02)


@asynccontextmanager
async def beating(scene: Scene) -> AsyncIterator[Pulse]:
    pulse = Pulse(scene.ask, lambda: scene.streams)
    yield pulse
    await pulse.stop()


def test_a_dead_way_takes_less_than_ten_seconds() -> None:
    """With the values of the product: the tests below have shorter ones."""
    assert all(longest < 10 for longest in LONGEST)


async def test_while_there_is_an_answer_nobody_is_disturbed() -> None:
    scene = Scene([FakeStream(answers=False)])
    async with beating(scene) as pulse:
        await eventually(lambda: scene.asked >= 5)
        assert (scene.streams[0].why, scene.streams[0].pings, pulse.trouble) == ("", 0, "")


async def test_one_answer_that_is_late_ends_nothing() -> None:
    scene = Scene([FakeStream(answers=False)], deaf=1)
    async with beating(scene) as pulse:
        await eventually(lambda: scene.asked >= 4)
        assert (scene.streams[0].why, scene.streams[0].pings, pulse.trouble) == ("", 1, "")


async def test_two_in_a_row_end_what_is_silent_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dead, alive = FakeStream(answers=False), FakeStream()
    scene = Scene([dead, alive], deaf=4)
    async with beating(scene) as pulse:
        await eventually(lambda: bool(pulse.trouble))
        assert "does not answer" in dead.why
        assert (alive.why, alive.pings) == ("", 1)
        await eventually(lambda: not pulse.trouble)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the API server does not answer within 0.02 s", "the API server answers again"]


async def test_what_nobody_acknowledges_ends_although_the_api_server_answers() -> None:
    scene = Scene([FakeStream(stuck=True), FakeStream()])
    async with beating(scene):
        await eventually(lambda: bool(scene.streams[0].why))
        assert scene.streams[1].why == ""


async def test_an_api_server_in_trouble_is_trouble_and_no_dead_way() -> None:
    scene = Scene([FakeStream(answers=False)], says="the API server answered 503")
    async with beating(scene) as pulse:
        await eventually(lambda: bool(pulse.trouble))
        assert scene.streams[0].why == ""


async def test_without_streams_it_is_asked_seldom_unless_there_is_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulsing, "IDLE_INTERVAL", 1000.0)
    scene = Scene()
    async with beating(scene) as pulse:
        await asyncio.sleep(0.1)
        assert scene.asked == 0
        pulse.hurry()
        await eventually(lambda: scene.asked == 1)


async def test_pauses_vary_so_that_many_hosts_do_not_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        drawn.append((least, most))
        return 0.0

    monkeypatch.setattr(pulsing, "INTERVAL", 1000.0)
    monkeypatch.setattr(random, "uniform", draw)
    scene = Scene([FakeStream()])
    async with beating(scene):
        await eventually(lambda: scene.asked == 2)
    assert set(drawn) == {(1 - pulsing.JITTER, 1)}


async def test_the_api_server_is_asked_beside_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulsing, "PATIENCE", 10.0)
    async with DemoCluster() as cluster:
        transport = PortForward(Access(cluster.server), lambda: None)
        stream = await transport.open(ECHO)
        cluster.faults.failing = 500
        await eventually(lambda: transport.trouble == "the API server answered 500")
        cluster.faults.failing = 0
        await eventually(lambda: transport.trouble == "")
        await stream.send(b"still here")
        assert await stream.receive() == b"still here"
        await cluster.refuse()
        await eventually(lambda: "cannot be reached" in transport.trouble)
        await stream.close()
        await transport.close()


async def test_a_pod_that_takes_nothing_is_no_dead_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: the kernel's limit for connections to the API server, made short here, must not hold for it."""
    monkeypatch.setattr(pulsing, "UNACKNOWLEDGED_LIMIT", 0.3)
    monkeypatch.setattr(pulsing, "PATIENCE", 10.0)
    assert "TCP_USER_TIMEOUT" in dict(access._GUARDS)
    monkeypatch.setattr(access, "_GUARDS", (("TCP_USER_TIMEOUT", 300),))
    async with DemoCluster() as cluster:
        taking, gone = asyncio.Event(), asyncio.Event()

        async def lazy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await taking.wait()
            while await reader.read(2**16):
                pass
            writer.close()
            gone.set()

        server = await asyncio.start_server(lazy, "127.0.0.1", 0, limit=1024)
        here = server.sockets[0].getsockname()[:2]

        async def address(_pod: object, _port: int) -> tuple[str, int]:
            return str(here[0]), int(here[1])

        vars(cluster._servers)["address"] = address
        transport = PortForward(Access(cluster.server), lambda: None)
        stream = await transport.open(ECHO)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 64 * 2**20:
                await stream.send(bytes(MAX_SEND))
                sent += MAX_SEND

        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=1.5)
        assert not done, "nothing stops a client whose pod takes nothing"
        taking.set()
        await asyncio.wait_for(sending, 30)
        await stream.close()
        await transport.close()
        await asyncio.wait_for(gone.wait(), 10)
        server.close()


@pytest.mark.staged
async def test_when_the_way_dies_silent_streams_end_and_status_says_so() -> None:
    loop = asyncio.get_running_loop()
    async with rig(wrapped=QUICK_PULSE) as tunnel:
        await tunnel.start()
        host = str(await tunnel.address("echo"))
        idle, busy = [await asyncio.open_connection(host, 7) for _ in range(2)]
        for reader, writer in (idle, busy):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        port = int(tunnel.cluster.server.rpartition(":")[2])
        try:
            assert (await shell(f"{WAY}; nft add rule inet way in tcp dport {port} drop")).code == 0
            began = loop.time()
            busy[1].write(os.urandom(1000))
            ended = [await _ended(reader) for reader, _ in (idle, busy)]
            assert ended == [True, True]
            print(f"found after {loop.time() - began:.1f} s")
            await tunnel.reported(lambda values: values["state"] != "ready")
        finally:
            await shell("nft delete table inet way")
        await tunnel.reported(lambda values: values["state"] == "ready")
        reader, writer = await asyncio.open_connection(host, 7)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        for _, one in (idle, busy, (reader, writer)):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends by a reset."""
    try:
        async with asyncio.timeout(20):
            await reader.read(1)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return False


async def test_a_stream_that_was_ended_says_why() -> None:
    async with DemoCluster() as cluster:
        transport = PortForward(Access(cluster.server), lambda: None)
        stream = await transport.open(ECHO)
        stream.fail("the way is dead")
        with pytest.raises(StreamBrokenError, match="the way is dead"):
            await stream.receive()
        await stream.close()
        await transport.close()
