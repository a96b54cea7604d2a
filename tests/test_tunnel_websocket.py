"""Websockets as the tunnel reads and writes them: every frame a server may send, and what it may not."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.http_websocket import WSCloseCode
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from resolverd_tunnel.handshake import HandshakeError, Upgraded, accept_key, upgrade
from resolverd_tunnel.port_forward_channels import Channels
from resolverd_tunnel.transport import TransportError
from resolverd_tunnel.websocket import ENOUGH, WebSocket
from resolverd_tunnel.websocket_frames import FrameError, FrameReader, Opcode, head

PROTOCOLS = ("chat", "v2.chat")


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """As a server writes it."""
    first = bytes([fin << 7 | opcode])
    if len(data) < 126:
        return first + bytes([len(data)]) + data
    if len(data) < 2**16:
        return first + struct.pack("!BH", 126, len(data)) + data
    return first + struct.pack("!BQ", 127, len(data)) + data


LONG = bytes(range(256)) * 257


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[tuple[Opcode, bytes]]]:
    """Octets of some messages, fragmented in any way and with control frames in between; and what they say."""
    octets, said = b"", []
    for _ in range(draw(st.integers(0, 4))):
        parts = draw(st.lists(st.one_of(st.binary(max_size=300), st.just(LONG)), min_size=1, max_size=3))
        for number, part in enumerate(parts):
            opcode = Opcode.CONTINUATION if number else Opcode.BINARY
            octets += frame(opcode, part, fin=number == len(parts) - 1)
            control = draw(st.none() | st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)))
            if control and number < len(parts) - 1:
                octets += frame(*control)
                said.append(control)
        said.append((Opcode.BINARY, b"".join(parts)))
    return octets, [item for item in said if item[1] or item[0] is not Opcode.BINARY]


def read(reader: FrameReader, octets: bytes, size: int) -> list[tuple[Opcode, bytes]]:
    """The whole messages in ``octets``, given ``size`` at a time."""
    found: list[tuple[Opcode, bytes]] = []
    message = b""
    for at in range(0, len(octets), size):
        for opcode, data, starts, ends in reader.feed(memoryview(octets)[at : at + size]):
            if opcode is not Opcode.BINARY:
                assert (starts, ends) == (True, True)
                found.append((opcode, bytes(data)))
                continue
            assert starts == (not message)
            message += data
            if ends:
                found.append((opcode, message))
                message = b""
    assert not message
    return found


@given(st.data(), st.integers(1, 300))
def test_messages_arrive_as_they_were_sent_however_they_are_cut(data: st.DataObject, size: int) -> None:
    octets, said = data.draw(messages())
    assert read(FrameReader(), octets, size if len(octets) < 10_000 else size * 256) == said


@pytest.mark.parametrize(
    "octets",
    [
        frame(Opcode.TEXT, b"words"),
        frame(Opcode.CONTINUATION, b"of what"),
        frame(Opcode.BINARY, b"one", fin=False) + frame(Opcode.BINARY, b"another"),
        frame(3, b"reserved"),
        frame(11, b"reserved"),
        b"\xc2\x01x",
        b"\x82\x81abcdx",
        b"\x89\x81abcdx",
        frame(Opcode.PING, bytes(126)),
        frame(Opcode.PING, b"", fin=False),
        b"\x82\x7f" + b"\xff" * 8,
    ],
    ids=[
        *("text", "continuation", "in between", "reserved data", "reserved control", "extension", "masked"),
        *("masked control", "large control", "fragmented control", "endless"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_a_server_may_not_send_is_refused(octets: bytes, size: int) -> None:
    with pytest.raises(FrameError):
        read(FrameReader(), octets, size)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_noise_is_payload_or_refused_and_costs_no_memory(portions: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for portion in portions:
            for piece in reader.feed(memoryview(portion)):
                assert len(piece.data) <= max(len(portion), 125)
    except FrameError:
        return


@pytest.mark.parametrize("size", [0, 125, 126, 2**16 - 1, 2**16])
def test_a_header_says_the_size_in_the_shortest_way(size: int) -> None:
    assert (
        head(Opcode.BINARY, size, b"")
        == bytes([0x82, 0x80 | frame(2, bytes(size))[1]]) + frame(2, bytes(size))[2 : len(frame(2, bytes(size))) - size]
    )


@dataclass
class Taken:
    """A receiver that keeps everything."""

    data: bytearray = field(default_factory=bytearray)
    rounds: int = 0
    ends: list[str] = field(default_factory=list)
    refuses: bool = False

    def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
        if self.refuses:
            raise FrameError("not wanted")
        self.data += data

    def fed(self) -> None:
        self.rounds += 1

    def ended(self, why: str) -> None:
        self.ends.append(why)


Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def connected(serve: Serve, *, refuses: bool = False) -> AsyncIterator[tuple[WebSocket, Taken]]:
    """A websocket of ours to a server of aiohttp's that does ``serve``."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v2.chat"], autoping=False, timeout=1)
        await socket.prepare(request)
        await serve(socket)
        return socket

    async with server(answer) as (session, url):
        upgraded = await upgrade(session, url, PROTOCOLS, None)
        assert upgraded.protocol == "v2.chat"
        websocket, taken = WebSocket(upgraded), Taken(refuses=refuses)
        websocket.start(taken)
        yield websocket, taken
        await websocket.close()


@asynccontextmanager
async def server(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[aiohttp.ClientSession, URL]]:
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield session, URL(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    finally:
        await runner.cleanup()


async def test_what_is_sent_arrives_and_comes_back() -> None:
    async def echo(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            await socket.send_bytes(message.data)

    async with connected(echo) as (websocket, taken):
        sent = [b"", b"x", bytes(range(256)) * 1000]
        for data in sent:
            websocket.send(bytearray(data))
        await eventually(lambda: len(taken.data) == sum(map(len, sent)))
        assert taken.data == b"".join(sent)
    assert taken.ends == []


async def test_pings_are_answered_and_a_close_is_confirmed() -> None:
    heard: list[tuple[WSMsgType, object]] = []

    async def ask(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"are you there")
        message = await socket.receive()
        heard.append((message.type, message.data))
        await socket.close(code=WSCloseCode.OK)
        heard.append((WSMsgType.CLOSE, socket.close_code))

    async with connected(ask) as (_, taken):
        await eventually(lambda: len(heard) == 2)
        await eventually(lambda: taken.ends == [""])
    assert heard == [(WSMsgType.PONG, b"are you there"), (WSMsgType.CLOSE, WSCloseCode.OK)]


@pytest.mark.parametrize(("code", "why"), [(WSCloseCode.GOING_AWAY, "closed with 1001"), (None, "without a close")])
async def test_another_end_is_told_from_an_orderly_one(code: WSCloseCode | None, why: str) -> None:
    async def leave(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"the last")
        if code is None:
            vars(socket)["_req"].transport.abort()
        else:
            await socket.close(code=code)

    async with connected(leave) as (websocket, taken):
        await eventually(lambda: bool(taken.ends))
        assert len(taken.ends) == 1
        assert why in taken.ends[0]
        assert not websocket.is_open


async def test_a_message_that_means_nothing_ends_it_and_says_so() -> None:
    codes: list[int | None] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"nonsense")
        await socket.receive()
        codes.append(socket.close_code)

    async with connected(talk, refuses=True) as (_, taken):
        await eventually(lambda: taken.ends == ["not wanted"])
        await eventually(lambda: codes == [WSCloseCode.PROTOCOL_ERROR])


async def test_whoever_takes_nothing_stops_the_other_side_in_both_directions() -> None:
    sent = 0
    go_on = asyncio.Event()

    async def flood(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        while sent < 400:
            await socket.send_bytes(bytes(2**18))
            sent += 1
        await go_on.wait()
        while True:
            await socket.receive()

    async with connected(flood) as (websocket, taken):
        websocket.pause()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 400
        held = len(taken.data)
        websocket.resume()
        await eventually(lambda: len(taken.data) == 400 * 2**18)
        assert held < 2**20
        written = 0
        while not websocket.is_full:
            websocket.send(bytearray(2**16))
            written += 1
        assert written * 2**16 > ENOUGH
        go_on.set()
        await asyncio.wait_for(websocket.writable(), 10)
        assert not websocket.is_full


@pytest.mark.parametrize(
    ("status", "changed", "why"),
    [
        (403, {}, "HTTP 403"),
        (101, {"Upgrade": "h2c"}, "Upgrade"),
        (101, {"Connection": "keep-alive"}, "Connection"),
        (101, {"Sec-WebSocket-Accept": "x"}, "another question"),
        (101, {"Sec-WebSocket-Protocol": "v3.chat"}, "not asked for"),
        (101, {"Sec-WebSocket-Extensions": "permessage-deflate"}, "extension"),
    ],
)
async def test_an_answer_that_is_no_websocket_is_said_to_be(status: int, changed: dict[str, str], why: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        good = {
            "Upgrade": "websocket",
            "Connection": "upgrade",
            "Sec-WebSocket-Accept": accept_key(request.headers["Sec-WebSocket-Key"].encode()),
        }
        return web.Response(status=status, headers={**good, **changed} if status == 101 else {})

    async with server(answer) as (session, url):
        with pytest.raises(HandshakeError, match=why) as caught:
            await upgrade(session, url, PROTOCOLS, None)
        assert caught.value.status == status


def test_the_key_is_answered_as_in_the_specification() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Tls(asyncio.Transport):
    """Does as asyncio's TLS does: when it is to close it first reads what is there, and hands that on."""

    def __init__(self, more: bytes) -> None:
        super().__init__()
        self.more = more
        self.protocol = asyncio.BaseProtocol()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        receive(self, self.more)


def receive(transport: Tls, octets: bytes) -> None:
    protocol = transport.protocol
    assert isinstance(protocol, WebSocket)
    if octets:
        buffer = protocol.get_buffer(-1)
        buffer[: len(octets)] = octets
        protocol.buffer_updated(len(octets))
    else:
        protocol.eof_received()


CLOSED = frame(Opcode.CLOSE, WSCloseCode.OK.to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("last", "more", "why"),
    [
        (CLOSED, b"", ""),
        (CLOSED, frame(Opcode.BINARY, b"LATER"), ""),
        (CLOSED + frame(Opcode.BINARY, b"LATER"), b"", ""),
        (b"\x82\x81abcdx", frame(Opcode.BINARY, b"LATER"), "masked"),
    ],
)
async def test_what_is_read_while_it_closes_changes_nothing(last: bytes, more: bytes, why: str) -> None:
    transport = Tls(more)
    websocket, seen = WebSocket(Upgraded(transport, "chat", b"", lambda: None)), Seen()
    websocket.start(seen)
    receive(transport, frame(Opcode.BINARY, b"right") + last)
    assert (bytes(seen.data), [bool(said) for said in seen.ends]) == (b"right", [bool(why)])


class Seen(Taken):
    """A receiver that looks at the octets only when it is told that they were all, as streams do."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[memoryview] = []

    def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
        self.pieces.append(data)

    def fed(self) -> None:
        self.data += b"".join(self.pieces)
        self.pieces.clear()


async def test_an_error_of_ours_ends_it_with_what_was_received_before() -> None:
    class Failing(Seen):
        def feed(self, data: memoryview, starts: bool, ends: bool) -> None:
            if self.pieces:
                raise IndexError
            super().feed(data, starts, ends)

    transport, seen = Tls(b""), Failing()
    WebSocket(Upgraded(transport, "chat", b"", lambda: None)).start(seen)
    with pytest.raises(IndexError):
        receive(transport, frame(Opcode.BINARY, b"right") + frame(Opcode.BINARY, b"wrong"))
    assert (bytes(seen.data), seen.ends) == (b"right", ["an internal error"])


@pytest.mark.parametrize("pieces", [[5000], [4090, 20], [5000, 3]])
async def test_a_long_error_is_cut(pieces: list[int]) -> None:
    words: list[bool] = []
    transport = Tls(b"")
    websocket = WebSocket(Upgraded(transport, "v4", b"", lambda: None))
    channels = Channels(websocket, 80, words.append)
    websocket.start(channels)
    receive(transport, frame(Opcode.BINARY, b"\0\x50\0") + frame(Opcode.BINARY, b"\1\x50\0"))
    await channels.announced()
    first, *rest = pieces
    text = frame(Opcode.BINARY, b"\1" + b"x" * first, fin=not rest)
    receive(transport, text + b"".join(frame(Opcode.CONTINUATION, b"y" * size) for size in rest))
    with pytest.raises(TransportError, match="x" * 4000):
        await channels.stream.await_acceptance(1)
    assert words == [False]
