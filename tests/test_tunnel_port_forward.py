"""The transport over port-forward: what it takes as accepted, how each failure is told, and that it lets go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from fakes import eventually
from recorded import exchanges

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, User
from resolverd_tunnel import pulse as pulsing
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.transport import MAX_SEND, NoWayError, Stream, StreamBrokenError, TransportError, named

WEB = Target("shop", "web-1", 8080)
ECHO = Target("shop", "echo-1", 7007)
TOKENS = {"admin": ADMIN, "nobody": User("nobody")}
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster(traits=Traits(tokens=TOKENS)) as cluster:
        yield cluster


@pytest.fixture
async def forward(cluster: DemoCluster) -> AsyncIterator[PortForward]:
    transport = PortForward(Access(cluster.server, token="Bearer admin"), lambda: None)
    yield transport
    await transport.close()


async def everything(stream: Stream) -> bytes:
    found = b""
    while data := await stream.receive():
        found += data
    return found


async def test_a_request_and_its_answer(forward: PortForward) -> None:
    stream = await forward.open(WEB)
    await stream.send(REQUEST)
    assert (await everything(stream)).endswith(b"pod web-1 in namespace shop, port 8080, got GET /\n")
    await stream.close()
    await stream.close()


async def test_the_largest_block_arrives_whole(forward: PortForward) -> None:
    stream = await forward.open(ECHO)
    block = bytes(n % 251 for n in range(MAX_SEND))
    await stream.send(block)
    back = b""
    while len(back) < len(block):
        back += await stream.receive()
    assert back == block
    await stream.close()


async def test_a_port_nobody_listens_on_is_refused(forward: PortForward) -> None:
    with pytest.raises(ConnectionRefusedError, match="connection refused"):
        await forward.open(Target("shop", "web-1", 9))
    assert forward.trouble == ""


async def test_a_pod_that_is_gone_is_no_trouble_for_others(forward: PortForward) -> None:
    with pytest.raises(TransportError, match="shop/gone:80: the pod is gone"):
        await forward.open(Target("shop", "gone", 80))
    assert forward.trouble == ""


async def test_a_name_cannot_leave_its_place_in_the_path(forward: PortForward) -> None:
    with pytest.raises(TransportError):
        await forward.open(Target("shop", "web-1/portforward?ports=8080&x=", 80))
    with pytest.raises(TransportError):
        await forward.open(Target("shop", "../../../namespaces/shop/pods/web-1", 8080))


async def test_refusals_of_the_api_server_say_what_to_do_and_are_logged_once(
    cluster: DemoCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    called: list[str] = []
    for token, words in (("expired", "(401)"), ("nobody", "create on pods/portforward")):
        transport = PortForward(Access(cluster.server, token=f"Bearer {token}"), lambda: called.append("again"))
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await transport.open(WEB)
            assert words in str(caught.value)
        assert words in transport.trouble
        await transport.close()
    assert called == ["again", "again"]
    assert len(caplog.records) == 2


async def test_trouble_ends_with_the_first_success(cluster: DemoCluster, forward: PortForward) -> None:
    cluster.faults.failing = 503
    with pytest.raises(TransportError, match="answered 503"):
        await forward.open(WEB)
    assert "503" in forward.trouble
    cluster.faults.failing = 0
    await (await forward.open(WEB)).close()
    assert forward.trouble == ""


async def test_an_api_server_that_is_not_there(forward: PortForward, cluster: DemoCluster) -> None:
    await cluster.refuse()
    with pytest.raises(NoWayError):
        await forward.open(WEB)
    assert forward.trouble


async def test_a_broken_stream_is_not_an_end(forward: PortForward, cluster: DemoCluster) -> None:
    stream = await forward.open(ECHO)
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    cluster.faults.drop_streams()
    with pytest.raises(StreamBrokenError):
        await stream.receive()
    await stream.close()


async def test_a_broken_stream_has_the_way_looked_at(
    forward: PortForward, cluster: DemoCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTERVAL", "IDLE_INTERVAL"):
        monkeypatch.setattr(pulsing, name, 1000.0)
    stream = await forward.open(ECHO)
    await cluster.refuse()
    cluster.faults.drop_streams()
    with pytest.raises(StreamBrokenError):
        await stream.receive()
    assert not forward.trouble
    await stream.close()
    await eventually(lambda: "cannot be reached" in forward.trouble)


async def test_retiring_waits_for_whoever_goes_on_to_the_next_pod(forward: PortForward) -> None:
    async def second() -> Stream:
        with pytest.raises(TransportError, match="gone"):
            await forward.open(Target("shop", "gone", 80))
        return await forward.open(WEB)

    opening = asyncio.create_task(second())
    await asyncio.sleep(0)
    retiring = asyncio.create_task(forward.retire())
    stream = await opening
    await stream.send(REQUEST)
    assert (await everything(stream)).endswith(b"got GET /\n")
    assert not retiring.done()
    await stream.close()
    await retiring


async def test_retiring_waits_for_the_streams_that_are_open(forward: PortForward) -> None:
    stream = await forward.open(ECHO)
    retiring = asyncio.create_task(forward.retire())
    await stream.send(b"still here")
    assert await stream.receive() == b"still here"
    assert not retiring.done()
    await stream.close()
    await asyncio.wait_for(retiring, 10)


async def test_giving_up_while_opening_leaves_no_stream(forward: PortForward, cluster: DemoCluster) -> None:
    cluster.faults.freeze()
    opening = asyncio.create_task(forward.open(WEB))
    await asyncio.sleep(0.05)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    cluster.faults.thaw()
    await eventually(lambda: cluster.faults.streams == 0)
    await asyncio.wait_for(forward.retire(), 10)


class Kubelet:
    """Answers each port-forward with the next script of frames, then closes in order."""

    def __init__(self, *scripts: list[bytes | float]) -> None:
        """A number in a script is a pause, in seconds."""
        self.scripts = list(scripts)

    async def answer(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        for frame in self.scripts.pop(0):
            if isinstance(frame, float):
                await asyncio.sleep(frame)
            else:
                await socket.send_bytes(frame)
        await socket.close()
        return socket


async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[web.AppRunner, str]:
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_where_a_login_page_says_to_go_nobody_goes() -> None:
    """As with lists and watches: neither the token nor the client's certificate is for whoever is there."""
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/login"})

    runner, server = await served(redirect)
    transport = PortForward(Access(server), lambda: None)
    try:
        with pytest.raises(TransportError, match="answered 302"):
            await transport.open(WEB)
        assert await transport._ask() == ""
        assert "/login" not in asked
    finally:
        await transport.close()
        await runner.cleanup()


def recorded_frames(path: str) -> list[bytes | float]:
    exchange = next(e for e in exchanges("portforward-websocket") if e["request"]["path"] == path)
    frames = exchange["response"]["frames"]
    return [bytes.fromhex(f["payload_hex"]) for f in frames if f.get("from") == "server" and f["opcode"] == 2]


@pytest.mark.parametrize(("ports", "expected"), [(8080, None), (9, "connection refused")])
async def test_frames_of_a_real_cluster(ports: int, expected: str | None) -> None:
    pod = "/api/v1/namespaces/shop/pods/web-1/portforward?ports="
    runner, server = await served(Kubelet(recorded_frames(f"{pod}{ports}")).answer)
    transport = PortForward(Access(server), lambda: None)
    try:
        if expected:
            with pytest.raises(ConnectionRefusedError, match=expected):
                await transport.open(Target("shop", "web-1", ports))
        else:
            stream = await transport.open(Target("shop", "web-1", ports))
            assert (await everything(stream)).endswith(b"hello from web-1\n")
            await stream.close()
    finally:
        await transport.close()
        await runner.cleanup()


async def test_a_port_that_has_answered_is_trusted_until_the_node_says_otherwise() -> None:
    opening: list[bytes | float] = [b"\x00\x90\x1f", b"\x01\x90\x1f"]
    refused = [*opening, 0.02, b"\x01failed to dial 8080: connection refused"]
    runner, server = await served(Kubelet([*opening, b"\x00hello"], refused, refused).answer)
    transport = PortForward(Access(server), lambda: None)
    try:
        first = await transport.open(WEB)
        assert await everything(first) == b"hello"
        await first.close()
        trusted = await transport.open(WEB)
        with pytest.raises(StreamBrokenError, match="refused"):
            await trusted.receive()
        await trusted.close()
        with pytest.raises(ConnectionRefusedError):
            await transport.open(WEB)
    finally:
        await transport.close()
        await runner.cleanup()


async def test_what_the_node_says_is_no_refusal_unless_it_says_so() -> None:
    opening = [b"\x00\x90\x1f", b"\x01\x90\x1f"]
    runner, server = await served(Kubelet([*opening, b"\x01container not running (0123abcd)"]).answer)
    transport = PortForward(Access(server), lambda: None)
    try:
        with pytest.raises(TransportError, match="container not running"):
            await transport.open(WEB)
        assert not transport.trouble, "it is this pod's alone"
    finally:
        await transport.close()
        await runner.cleanup()


async def test_another_port_than_the_one_asked_for_is_not_taken() -> None:
    runner, server = await served(Kubelet([b"\x00\x91\x1f", b"\x01\x91\x1f"]).answer)
    transport = PortForward(Access(server), lambda: None)
    try:
        with pytest.raises(TransportError, match="did not announce port 8080"):
            await transport.open(WEB)
    finally:
        await transport.close()
        await runner.cleanup()


def test_transports_are_found_by_name() -> None:
    assert named("auto") == named("port-forward") == ("port-forward", PortForward)
    with pytest.raises(Exception, match=r"there is no transport carrier-pigeon \(one of: auto, port-forward\)"):
        named("carrier-pigeon")
