"""kubectl forwards ports of the demo cluster, whichever way it gets its SPDY session; and what SPDY/3 is."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import zlib
from collections.abc import AsyncIterator, Iterable
from io import BytesIO

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from port_forward_double import kubectl_to

from resolverd.cluster.spdy import DICTIONARY, LARGEST_BLOCK, Decoder, Encoder, Frame, Kind, SpdyError
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd.demo.spdy_upgrade import TUNNEL

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
WEB = "/api/v1/namespaces/shop/pods/web-1/portforward"
SPDY = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}

KINDS = st.sampled_from([Kind.SYN_STREAM, Kind.SYN_REPLY, Kind.HEADERS])
HEADERS = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=5)
NUMBERS = st.integers(1, 2**31 - 1)
NO_HEADERS: st.SearchStrategy[dict[str, str]] = st.just({})
FRAMES = st.one_of(
    st.builds(Frame, KINDS, NUMBERS, st.booleans(), st.just(b""), HEADERS),
    st.builds(Frame, st.just(Kind.DATA), NUMBERS, st.booleans(), st.binary(max_size=70), NO_HEADERS),
    st.builds(Frame, st.sampled_from([Kind.PING, Kind.RST_STREAM]), NUMBERS, st.just(False), st.just(b""), NO_HEADERS),
)


def test_the_dictionary_is_that_of_the_specification() -> None:
    """The stream of another implementation names it by this checksum."""
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def joined(frames: Iterable[Frame]) -> list[Frame]:
    """``frames`` with the pieces of data of each put together, up to the last one of its stream."""
    found: list[Frame] = []
    for frame in frames:
        before = found[-1] if found else None
        if before and before.kind is frame.kind is Kind.DATA and before.number == frame.number and not before.is_last:
            found[-1] = frame._replace(data=bytes(before.data) + bytes(frame.data))
        else:
            found.append(frame._replace(data=bytes(frame.data)))
    return found


@given(st.lists(FRAMES, max_size=8), st.integers(1, 50))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(frames: list[Frame], size: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    octets = b"".join(encoder.encode(frame) for frame in frames)
    found = joined(f for at in range(0, len(octets), size) for f in decoder.feed(octets[at : at + size]))
    assert found == joined(frames)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x80\x02\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01",
        b"\x80\x03\x00\x06\x00\x00\x00\x00",
        b"\x80\x03\x00\x01\x00\x00\x00\x0e" + bytes(10) + b"nope",
        Encoder().encode(Frame(Kind.SYN_REPLY, 1, headers={"bomb": "0" * LARGEST_BLOCK})),
    ],
    ids=["version", "too short", "no zlib", "too large"],
)
def test_what_is_not_spdy_is_said_to_be(octets: bytes) -> None:
    with pytest.raises(SpdyError):
        list(Decoder().feed(octets))


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster() as cluster:
        yield cluster


@needs_kubectl
@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "upgrade"])
async def test_kubectl_forwards_whole_answers_side_by_side(cluster: DemoCluster, websocket: bool) -> None:
    size = 3_000_000
    whole = hashlib.sha256((bytes(range(256)) * (size // 256 + 1))[:size]).digest()

    async def fetch(session: aiohttp.ClientSession, port: int) -> None:
        async with session.get(f"http://127.0.0.1:{port}/bytes/{size}") as response:
            assert hashlib.sha256(await response.read()).digest() == whole

    async with (
        kubectl_to(cluster, Target("shop", "web-1", 8080), websocket=websocket) as (port, _),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        await asyncio.gather(*(fetch(session, port) for _ in range(4)))
        async with session.post(f"http://127.0.0.1:{port}/echo", data=BytesIO(b"x" * size)) as response:
            assert await response.read() == b"x" * size
    asked = [method for method, path in cluster.asked if path.startswith(WEB)]
    assert len(asked) == 1, "one session carries them all"
    assert websocket or asked == ["POST"]


class _Client:
    """The other end of a session, inside a websocket, in messages of a few octets."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._encoder, self._decoder = socket, Encoder(), Decoder()
        self._come: list[Frame] = []

    async def send(self, frame: Frame) -> None:
        octets = self._encoder.encode(frame)
        for start in range(0, len(octets), 5):
            await self._socket.send_bytes(octets[start : start + 5])
            await self._socket.send_bytes(b"")

    async def connect(self, port: int, number: int = 1) -> None:
        """Open the streams ``number`` (error) and the one after it (data)."""
        for kind, stream in (("error", number), ("data", number + 2)):
            headers = {"streamtype": kind, "port": str(port), "requestid": str(number)}
            await self.send(Frame(Kind.SYN_STREAM, stream, headers=headers))
            assert await self.next() == Frame(Kind.SYN_REPLY, stream)

    async def next(self) -> Frame:
        async with asyncio.timeout(10):
            while not self._come:
                self._come = list(self._decoder.feed((await self._socket.receive()).data))
        return self._come.pop(0)

    async def ended(self) -> dict[int, bytes]:
        """What the next two streams to end had carried."""
        carried: dict[int, bytes] = {}
        ends = 0
        while ends < 2:
            frame = await self.next()
            carried[frame.number] = carried.get(frame.number, b"") + frame.data
            ends += frame.is_last
        return carried


@pytest.fixture
async def client(cluster: DemoCluster) -> AsyncIterator[_Client]:
    async with aiohttp.ClientSession(cluster.server) as session, session.ws_connect(WEB, protocols=[TUNNEL]) as socket:
        assert socket.protocol == TUNNEL
        yield _Client(socket)


async def test_a_refused_port_is_told_on_the_error_stream_and_the_session_goes_on(client: _Client) -> None:
    await client.connect(9999)
    carried = await client.ended()
    assert (carried[3], b"9999: connect: connection refused" in carried[1]) == (b"", True)
    await client.connect(8080, 5)
    await client.send(Frame(Kind.DATA, 7, data=b"GET /status/204 HTTP/1.0\r\n\r\n"))
    carried = await client.ended()
    assert (carried[5], carried[7][:12]) == (b"", b"HTTP/1.0 204")


async def test_a_ping_comes_back_and_a_reset_ends_the_connection(client: _Client) -> None:
    await client.send(Frame(Kind.PING, 7))
    assert await client.next() == Frame(Kind.PING, 7)
    await client.connect(8080)
    await client.send(Frame(Kind.RST_STREAM, 3))
    assert await client.ended() == {1: b"", 3: b""}


async def test_a_client_that_has_finished_is_cut_off_soon(client: _Client) -> None:
    """As a real node does; an answer that takes longer is lost."""
    await client.connect(8080)
    await client.send(Frame(Kind.DATA, 3, is_last=True))
    assert await client.ended() == {1: b"", 3: b""}


async def test_streams_that_are_of_no_connection_are_reset(client: _Client) -> None:
    await client.send(Frame(Kind.SYN_STREAM, 1, headers={"streamtype": "data", "port": "0", "requestid": "0"}))
    assert await client.next() == Frame(Kind.RST_STREAM, 1)


async def test_an_upgrade_is_to_a_protocol_that_both_speak(cluster: DemoCluster) -> None:
    async with aiohttp.ClientSession(cluster.server) as session:
        async with session.post(WEB, headers=SPDY) as response:
            assert (response.status, await response.text()) == (
                400,
                "unable to upgrade: X-Stream-Protocol-Version is required\n",
            )
        async with session.post(WEB, headers={**SPDY, "X-Stream-Protocol-Version": "other"}) as response:
            assert response.status == 403
            assert response.headers["X-Accepted-Stream-Protocol-Versions"] == "portforward.k8s.io"
