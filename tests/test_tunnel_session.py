"""Sessions with a pod: one connection after the other in each, and never two at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st

from resolverd.cluster.access import Access
from resolverd.cluster.spdy import Decoder, Encoder, Frame, Kind
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd_tunnel import port_forward, port_forward_session, session_pool
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.port_forward_session import PROTOCOL, Session
from resolverd_tunnel.port_forward_stream import PortForwardStream
from resolverd_tunnel.transport import MAX_SEND, StreamBrokenError, TransportError
from resolverd_tunnel.websocket_frames import FrameError

WEB = Target("shop", "web-1", 8080)
ECHO = Target("shop", "echo-1", 7007)


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster() as cluster:
        yield cluster


@pytest.fixture
async def forward(cluster: DemoCluster) -> AsyncIterator[PortForward]:
    transport = PortForward(Access(cluster.server), lambda: None)
    yield transport
    await transport.close()


def requests(cluster: DemoCluster) -> int:
    return sum(path.partition("?")[0].endswith("/portforward") for _, path in cluster.asked)


async def echoed(stream: PortForwardStream, word: bytes) -> bytes:
    await stream.send(word)
    back = b""
    while len(back) < len(word):
        back += await stream.receive()
    return back


def idle(transport: PortForward) -> int:
    return len(vars(transport)["_sessions"])


async def used_once(transport: PortForward) -> None:
    stream = await transport.open(ECHO)
    assert await echoed(stream, b"first") == b"first"
    await stream.close()
    await eventually(lambda: idle(transport) == 1)


async def test_one_after_the_other_shares_a_session(cluster: DemoCluster, forward: PortForward) -> None:
    for _ in range(5):
        await used_once(forward)
    assert requests(cluster) == 1


async def test_after_a_pod_has_ended_a_connection_it_is_asked_for_anew(
    cluster: DemoCluster, forward: PortForward
) -> None:
    """It may have ended it because it was deleted; only the API server can say so before a client is accepted."""
    for number in (1, 2):
        stream = await forward.open(WEB)
        await stream.send(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := await stream.receive():
            answer += data
        assert answer.endswith(b"got GET /\n")
        await stream.close()
        await eventually(lambda: cluster.faults.streams == 0)
        assert requests(cluster) == number
    cluster.delete("Pod", "web-1", "shop")
    with pytest.raises(TransportError, match="gone"):
        await forward.open(WEB)


async def test_a_pod_that_was_made_anew_is_asked_for_anew(cluster: DemoCluster, forward: PortForward) -> None:
    """A stateful set's pods keep their names; a session with the old one would be accepted, and then reset."""
    await used_once(forward)
    again = await forward.open(ECHO._replace(address="10.244.0.77"))
    assert await echoed(again, b"again") == b"again"
    assert requests(cluster) == 2
    await again.close()


async def test_two_at_once_never_do(cluster: DemoCluster, forward: PortForward) -> None:
    streams = await asyncio.gather(*(forward.open(ECHO) for _ in range(5)))
    for number, stream in enumerate(streams):
        assert await echoed(stream, b"%d" % number) == b"%d" % number
    assert requests(cluster) == 5
    for stream in streams:
        await stream.close()


async def test_what_the_last_client_left_behind_reaches_nobody(cluster: DemoCluster, forward: PortForward) -> None:
    for _ in range(5):
        stream = await forward.open(WEB)
        await stream.send(b"GET /bytes/100000000 HTTP/1.1\r\nHost: web\r\n\r\n")
        assert await stream.receive()
        await stream.close()  # with most of it on the way
        await eventually(lambda: idle(forward) == 1)
        again = await forward.open(WEB)
        await again.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        assert (await again.receive()).startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain")
        await again.close()
        await eventually(lambda: idle(forward) == 1)
    assert requests(cluster) == 1


async def test_a_session_whose_pod_takes_nothing_is_not_used_again(
    cluster: DemoCluster, forward: PortForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_forward_session, "CLEAN_LIMIT", 0.2)
    stream = await forward.open(ECHO)  # echoes, and stops reading when its echo is not taken

    async def fill() -> None:
        while True:
            await stream.send(bytes(MAX_SEND))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fill(), 2)
    await stream.close()
    again = await forward.open(ECHO)
    assert await asyncio.wait_for(echoed(again, b"at once"), 5) == b"at once"
    await again.close()
    assert requests(cluster) == 2


async def test_sessions_are_kept_for_a_moment_only(
    cluster: DemoCluster, forward: PortForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_pool, "IDLE_LIMIT", 0.1)
    await used_once(forward)
    await eventually(lambda: idle(forward) == 0)
    await eventually(lambda: cluster.faults.streams == 0)


async def test_no_more_are_kept_than_a_few(forward: PortForward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_pool, "MOST_OF_POD", 2)
    streams = await asyncio.gather(*(forward.open(ECHO) for _ in range(5)))
    await asyncio.gather(*(stream.close() for stream in streams))
    await eventually(lambda: idle(forward) == 2)
    await asyncio.sleep(0.1)
    assert idle(forward) == 2


async def test_a_session_that_was_cut_is_not_noticed(cluster: DemoCluster, forward: PortForward) -> None:
    await used_once(forward)
    cluster.faults.drop_streams()
    await used_once(forward)


async def test_a_session_that_is_dead_costs_a_moment(
    cluster: DemoCluster, forward: PortForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_forward, "REUSE_LIMIT", 0.1)
    await used_once(forward)
    (((session, _),),) = vars(vars(forward)["_sessions"])["_idle"].values()
    session.websocket.pause()  # nothing comes any more
    session.websocket.resume = lambda: None
    await used_once(forward)
    assert requests(cluster) == 2
    await eventually(vars(session.websocket)["_transport"].is_closing)


async def test_in_haste_all_of_them_go(cluster: DemoCluster, forward: PortForward) -> None:
    await used_once(forward)
    forward.hurry()
    assert idle(forward) == 0
    await eventually(lambda: cluster.faults.streams == 0)


async def test_what_comes_back_late_is_closed(cluster: DemoCluster) -> None:
    transport = PortForward(Access(cluster.server), lambda: None)
    stream = await transport.open(ECHO)
    retiring = asyncio.create_task(transport.retire())
    assert await echoed(stream, b"still here") == b"still here"
    await stream.close()
    await asyncio.wait_for(retiring, 10)
    await eventually(lambda: cluster.faults.streams == 0)


class Node:
    """Answers with sessions whose frames the test writes."""

    def __init__(self, talk: Callable[[web.WebSocketResponse, list[Frame], Encoder], object]) -> None:
        self.talk = talk
        self.sessions = 0

    async def answer(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=[PROTOCOL], timeout=0.1)
        await socket.prepare(request)
        self.sessions += 1
        decoder, encoder = Decoder(), Encoder()
        async for message in socket:
            for octets in self.talk(socket, list(decoder.feed(message.data)), encoder):  # type: ignore[attr-defined]
                await socket.send_bytes(octets)
        return socket


@asynccontextmanager
async def forwarding(node: Node) -> AsyncIterator[PortForward]:
    application = web.Application()
    application.router.add_get("/{path:.*}", node.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    transport = PortForward(Access(f"http://127.0.0.1:{runner.addresses[0][1]}"), lambda: None)
    try:
        yield transport
    finally:
        await transport.close()
        await runner.cleanup()


def taken(frames: list[Frame], encoder: Encoder) -> list[bytes]:
    """The replies to new streams."""
    return [encoder.encode(Frame(Kind.SYN_REPLY, f.number)) for f in frames if f.kind is Kind.SYN_STREAM]


async def test_an_error_that_is_no_refusal_ends_the_session_too() -> None:
    def fail(_: object, frames: list[Frame], encoder: Encoder) -> list[bytes]:
        opened = {f.headers["streamtype"]: f.number for f in frames if f.kind is Kind.SYN_STREAM}
        said = taken(frames, encoder)
        if opened:
            said.append(encoder.encode(Frame(Kind.DATA, opened["error"], data=b"the sandbox is ")))
            said.append(encoder.encode(Frame(Kind.DATA, opened["error"], is_last=True, data=b"gone")))
        return said

    node = Node(fail)
    async with forwarding(node) as transport:
        for number in (1, 2):
            with pytest.raises(TransportError, match="the sandbox is gone"):
                await transport.open(WEB)
            assert node.sessions == number


async def test_a_reset_by_the_node_is_no_orderly_end() -> None:
    def reset(_: object, frames: list[Frame], encoder: Encoder) -> list[bytes]:
        said = taken(frames, encoder)
        for frame in frames:
            if frame.kind is Kind.DATA and frame.data:
                said.append(encoder.encode(Frame(Kind.DATA, frame.number, data=b"half")))
                said.append(encoder.encode(Frame(Kind.RST_STREAM, frame.number)))
        return said

    async with forwarding(Node(reset)) as transport:
        stream = await transport.open(WEB)
        await stream.send(b"question")
        assert await stream.receive() == b"half"
        with pytest.raises(StreamBrokenError, match="reset"):
            await stream.receive()
        await stream.close()


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4))
async def test_no_noise_of_a_node_hangs_or_leaks(noise: list[bytes]) -> None:
    """Whatever a node says to a session: it is an error of the session, or of the connection, or means nothing."""

    class Websocket:
        is_open = True
        is_full = False
        is_reading = True

        def send(self, data: bytearray) -> None:
            assert data

        def resume(self) -> None: ...

        def pause(self) -> None: ...

    session = Session(Websocket(), lambda _: None)  # type: ignore[arg-type]
    opening = asyncio.create_task(session.open(80, lambda _: None))
    await asyncio.sleep(0)
    for octets in noise:
        try:
            session.feed(memoryview(octets), True, True)
            session.fed()
        except FrameError as error:
            session.ended(str(error))
            break
    session.ended("over")
    try:
        stream = await asyncio.wait_for(opening, 5)
    except TransportError:
        return

    async def all_of_it() -> None:
        while await stream.receive():
            pass

    with pytest.raises(StreamBrokenError):
        await asyncio.wait_for(all_of_it(), 5)
