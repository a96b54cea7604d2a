"""Port-forward: frame by frame what a real cluster did, and bytes that arrive whole however slow the reader is."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from recorded import applied, exchanges

from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, Rule, User

Raw = dict[str, Any]

V4 = "v4.channel.k8s.io"
TOKENS = {
    "admin": ADMIN,
    "dev": User("dev"),
    "reader": User("reader", (Rule(frozenset({"get"}), frozenset({"pods/portforward"})),)),
}
SHOP = "/api/v1/namespaces/shop/pods"


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    """The pods of the recording: web-1 with an HTTP server on 8080."""
    async with DemoCluster(traits=Traits(samples=False, dual_stack=False, tokens=TOKENS)) as cluster:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        pods = next(item for item in exchanges("lists") if item["request"]["path"] == "/api/v1/pods")
        for raw in pods["response"]["body"]["items"]:
            cluster.create(applied(raw))
        yield cluster


@pytest.fixture
async def session(cluster: DemoCluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=cluster.server, headers={"Authorization": "Bearer admin"}) as session:
        yield session


RECORDED = exchanges("portforward-websocket")
ACCEPTED = [item for item in RECORDED if item["response"]["frames"] and item["response"]["status"] == 101]


def of_channel(frames: list[bytes]) -> dict[int, bytes]:
    """What each channel carried, put together."""
    channels: dict[int, bytes] = {}
    for frame in frames:
        channels[frame[0]] = channels.get(frame[0], b"") + frame[1:]
    return channels


@pytest.mark.parametrize("exchange", ACCEPTED, ids=lambda item: item["request"]["path"])
async def test_frames_are_those_of_a_real_cluster(
    cluster: DemoCluster, session: aiohttp.ClientSession, exchange: Raw
) -> None:
    recorded = [frame for frame in exchange["response"]["frames"] if "payload_hex" in frame]
    async with session.ws_connect(exchange["request"]["path"], protocols=[V4]) as socket:
        for frame in recorded:
            if frame["from"] == "client":
                await socket.send_bytes(bytes.fromhex(frame["payload_hex"]))
        ours = [bytes(message.data) async for message in socket]
        assert socket.protocol == V4
    close = next(bytes.fromhex(frame["payload_hex"]) for frame in recorded if frame["opcode"] == 8)
    assert socket.close_code == int.from_bytes(close[:2])
    theirs = [
        bytes.fromhex(item["payload_hex"]) for item in recorded if item["from"] == "server" and item["opcode"] == 2
    ]
    mine, expected = of_channel(ours), of_channel(theirs)
    assert sorted(mine) == sorted(expected)
    for channel, octets in expected.items():
        assert mine[channel][:2] == octets[:2], "the port comes first"
        if channel % 2:
            address = cluster.get("pods", "web-1", "shop")["status"]["podIP"]
            assert mine[channel][2:].decode() == octets[2:].decode().replace("10.244.0.11", address)
        else:
            assert mine[channel][2:].startswith(octets[2:][: len(b"HTTP/1.0 200 OK\r\n")])


@pytest.mark.parametrize(
    "exchange",
    [item for item in RECORDED if item["response"]["status"] != 101],
    ids=lambda item: f"{item['request']['path']} {item['response']['status']}",
)
async def test_refusals_are_those_of_a_real_cluster(session: aiohttp.ClientSession, exchange: Raw) -> None:
    recorded = exchange["response"]
    token = "dev" if 'User \\"dev\\"' in (recorded["body_text"] or "") else "admin"
    upgrade = {
        "Authorization": f"Bearer {token}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Protocol": exchange["request"]["subprotocol"],
    }
    async with session.get(exchange["request"]["path"], headers=upgrade) as response:
        assert response.status == recorded["status"]
        assert await response.text() == recorded["body_text"]
        ours = {key.lower(): value for key, value in response.headers.items()}
    theirs = dict(line.lower().split(": ", 1) for line in recorded["headers"])
    for key in ("content-type", "content-length", "x-content-type-options", "cache-control"):
        if key in theirs and not (key == "x-content-type-options" and recorded["status"] == 403):
            assert ours[key].lower() == theirs[key]


async def test_a_websocket_needs_the_right_to_create_too(session: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(
            f"{SHOP}/web-1/portforward?ports=8080", protocols=[V4], headers={"Authorization": "Bearer reader"}
        )
    assert refused.value.status == 403


async def test_no_websocket_no_port_forward(session: aiohttp.ClientSession) -> None:
    async with session.get(f"{SHOP}/web-1/portforward?ports=8080") as response:
        assert (response.status, (await response.json())["message"]) == (400, "Upgrade request required")


async def test_the_base64_variant_carries_the_same(session: aiohttp.ClientSession) -> None:
    request = b64encode(b"GET /status/204 HTTP/1.0\r\n\r\n").decode()
    path = f"{SHOP}/web-1/portforward?ports=8080"
    async with session.ws_connect(path, protocols=["v4.base64.channel.k8s.io"]) as socket:
        await socket.send_str("0" + request)
        frames = [bytes([int(message.data[0])]) + b64decode(message.data[1:]) async for message in socket]
    channels = of_channel(frames)
    assert channels[0][2:].startswith(b"HTTP/1.0 204")
    assert channels[1] == (8080).to_bytes(2, "little")


async def test_a_slow_reader_gets_every_octet_in_small_frames(session: aiohttp.ClientSession) -> None:
    size = 24 * 2**20
    path = f"{SHOP}/web-1/portforward?ports=8080"
    async with session.ws_connect(path, protocols=[V4], max_msg_size=0) as socket:
        await socket.send_bytes(f"\0GET /bytes/{size} HTTP/1.0\r\n\r\n".encode())
        await asyncio.sleep(0.05)
        received = bytearray()
        async for message in socket:
            assert len(message.data) <= 32 * 2**10
            received += message.data[1:] if message.data[0] == 0 else b""
    _, _, body = received[2:].partition(b"\r\n\r\n")
    assert len(body) == size
    assert bytes(body[-256:]) == bytes(range(256))


@pytest.fixture
def redis(cluster: DemoCluster) -> str:
    """The path of a port-forward to a pod that echoes."""
    echo = {"name": "c", "ports": [{"name": "redis", "containerPort": 6379}]}
    metadata = {"name": "redis", "namespace": "shop"}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [echo]}})
    return f"{SHOP}/redis/portforward?ports=6379"


async def test_echo_answers_a_flow_until_its_pod_goes(
    cluster: DemoCluster, session: aiohttp.ClientSession, redis: str
) -> None:
    async with session.ws_connect(redis, protocols=[V4]) as socket:
        assert [(await socket.receive()).data for _ in range(2)] == [b"\x00\xeb\x18", b"\x01\xeb\x18"]
        for word in (b"ping", b"pong"):
            await socket.send_bytes(b"\0" + word)
            assert (await socket.receive()).data == b"\0" + word
        cluster.delete("pods", "redis", "shop")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_who_does_not_read_cannot_go_on_sending(session: aiohttp.ClientSession, redis: str) -> None:
    block, count = bytes(2**17), 512
    async with session.ws_connect(redis, protocols=[V4], max_msg_size=0) as socket:

        async def send() -> None:
            for _ in range(count):
                await socket.send_bytes(b"\0" + block)

        sending = asyncio.create_task(send())
        _, waiting = await asyncio.wait({sending}, timeout=1)
        assert waiting, "64 MiB went somewhere without being read"
        received = -2 * len((8080).to_bytes(2))  # the announcements of the port
        while received < count * len(block):
            received += len((await socket.receive()).data) - 1
        await sending


async def test_a_crashing_pod_refuses(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    cluster.patch("pods", "web-1", {"metadata": {"annotations": {"demo.resolverd.io/state": "crashing"}}}, "shop")
    async with session.ws_connect(f"{SHOP}/web-1/portforward?ports=8080", protocols=[V4]) as socket:
        channels = of_channel([message.data async for message in socket])
    assert b"connection refused" in channels[1]
