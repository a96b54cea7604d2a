"""The tunnel process as programs on the host meet it: real TUN device, real kernel connections, real pods."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import pytest
from fakes import eventually
from tunnel_rig import ALLOWED, PLAIN, Rig, host_network, process_on, rig

from resolverd.cluster.access import Access
from resolverd.cluster.snapshot import Change, Kind
from resolverd.demo.cluster import Traits
from resolverd.demo.rights import ADMIN, User
from resolverd.feed import Reach, Routable, Unauthorized
from resolverd.host import HostRoutes
from resolverd.names import Address
from resolverd_tunnel import worker
from resolverd_tunnel.netlink import Netlink

pytestmark = pytest.mark.staged


@pytest.fixture(params=["offload", "namespace", "readdress"])
async def tunnel(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """On each data path: nobody outside can tell them apart."""
    async with rig(PLAIN, "--data-path", request.param) as made:
        await made.start()
        yield made


async def curl(url: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "20", url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output


def url(address: Address, path: str = "/") -> str:
    return f"http://[{address}]{path}" if address.version == 6 else f"http://{address}{path}"


async def error_of(address: Address, port: int) -> int:
    """The errno that connecting ends with; 0 when it succeeds."""
    connection = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    connection.setblocking(False)
    with connection:
        try:
            async with asyncio.timeout(20):
                await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        except TimeoutError:
            raise
        except OSError as error:
            return error.errno or -1
    return 0


@pytest.mark.parametrize("family", [4, 6])
async def test_curl_reaches_the_pods_of_a_service(tunnel: Rig, family: int) -> None:
    address = await tunnel.address("dual", "payments", family)
    answers = {(await curl(url(address)))[1] for _ in range(4)}
    assert {answer.split()[1] for answer in answers} == {b"api-1", b"api-2"}
    assert all(b"in namespace payments, port 800" in answer for answer in answers)


async def test_a_pod_is_reached_by_its_own_address_on_any_port_it_serves(tunnel: Rig) -> None:
    address = ip_address(tunnel.cluster.get("Pod", "db-1", "shop")["status"]["podIP"])
    await tunnel.hold(address)
    await _echo_once(str(address), b"to db-1", port=5432)
    assert await error_of(address, 5433) == errno.ECONNREFUSED


async def test_what_nobody_serves_is_refused_and_what_nobody_has_is_unreachable(tunnel: Rig) -> None:
    web, empty, bank = [
        await tunnel.address(name, ns) for name, ns in (("web", "shop"), ("empty", "shop"), ("bank", "payments"))
    ]
    unknown, unknown6 = ip_address("10.96.255.254"), ip_address("fd00:10:96::fffe")
    await tunnel.hold(unknown, unknown6)
    assert await error_of(web, 81) == errno.ECONNREFUSED
    assert await error_of(empty, 80) == errno.ECONNREFUSED
    assert await error_of(bank, 443) == errno.ECONNREFUSED
    assert await error_of(unknown, 80) == errno.EHOSTUNREACH
    assert await error_of(unknown6, 80) == errno.EHOSTUNREACH


async def test_a_port_the_pod_does_not_listen_on_is_refused_though_the_service_has_it(tunnel: Rig) -> None:
    raw = {"metadata": {"name": "closed", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}}
    raw["spec"]["ports"] = [{"port": 80, "targetPort": 4242}]  # type: ignore[index]
    tunnel.cluster.create({"apiVersion": "v1", "kind": "Service", **raw})
    await tunnel.feed()
    assert await error_of(await tunnel.address("closed"), 80) == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("descriptors", "flows"),
    [
        (resource.RLIM_INFINITY, worker.MOST_FLOWS),
        (2**20, worker.MOST_FLOWS),
        (4096, (4096 - 256) // 2),
        (64, 16),
    ],
)
def test_there_are_two_descriptors_for_each_connection(
    descriptors: int, flows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, descriptors))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: asked.append(both))
    assert worker._most_flows() == flows
    assert asked == [(descriptors, descriptors)]


async def test_fragments_and_malformed_packets_are_dropped_and_counted(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    ends = bytes(4) + web.packed
    fragment = struct.pack("!BBHHHBBH", 0x45, 0, 28, 7, 0x2000, 64, 17, 0) + ends + struct.pack("!HHHH", 1, 2, 8, 0)
    half_a_segment = struct.pack("!BBHHHBBH", 0x45, 0, 30, 8, 0, 64, 6, 0) + ends + bytes(10)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in (fragment, fragment, half_a_segment):
            raw.sendto(packet, (str(web), 0))
    await tunnel.reported(
        lambda values: (values["dropped"].get("fragment"), values["dropped"].get("malformed")) == (2, 1)
    )
    assert await error_of(web, 80) == 0


async def test_udp_is_refused_at_once(tunnel: Rig) -> None:
    for family in (4, 6):
        address = await tunnel.address("dual", "payments", family)
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect((str(address), 53))
            asking.send(b"anybody there?")
            with pytest.raises(ConnectionRefusedError):
                async with asyncio.timeout(20):
                    await asyncio.get_running_loop().sock_recv(asking, 100)


async def test_an_echo_is_answered_only_by_what_is_there(tunnel: Rig) -> None:
    web, empty = await tunnel.address("web"), await tunnel.address("empty")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinging:
        pinging.setblocking(False)
        for address in (empty, web):
            body = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
            body = body[:2] + struct.pack("!H", 0xFFFF - (0x0800 + 7 + 1)) + body[4:]
            pinging.sendto(body, (str(address), 0))
        replies: dict[bytes, bytes] = {}
        async with asyncio.timeout(20):
            while len(replies) < 2:
                packet = await asyncio.get_running_loop().sock_recv(pinging, 2000)
                if packet[20] == 3:
                    replies[packet[28 + 16 : 28 + 20]] = packet[20:22]
                elif packet[20] == 0:
                    replies[packet[12:16]] = packet[20:22]
    assert replies == {web.packed: b"\0\0", empty.packed: b"\3\1"}


async def test_a_large_transfer_arrives_whole_both_ways(tunnel: Rig) -> None:
    size = 64 * 2**20
    web, echo = await tunnel.address("web"), await tunnel.address("echo")
    code, body = await curl(url(web, f"/bytes/{size}"))
    assert (code, hashlib.sha256(body).digest()) == (0, hashlib.sha256(bytes(range(256)) * (size // 256)).digest())
    sent = os.urandom(2**20) * 24
    reader, writer = await asyncio.open_connection(str(echo), 7)

    async def send() -> None:
        writer.write(sent)
        await writer.drain()

    async with asyncio.timeout(60):
        _, back = await asyncio.gather(send(), reader.readexactly(len(sent)))
    writer.close()
    await writer.wait_closed()
    assert hashlib.sha256(back).digest() == hashlib.sha256(sent).digest()


async def test_two_hundred_connections_at_once_and_nothing_is_left_of_them(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    await _echo_once(str(address), b"first")
    await tunnel.reported(lambda values: values["streams"] == 0)
    before = tunnel.descriptors()
    async with asyncio.timeout(60):
        await asyncio.gather(*(_echo_once(str(address), b"number %d" % n) for n in range(200)))
    await tunnel.reported(lambda values: values["streams"] == 0 and values["bytes"] > 200 * 16)
    await eventually(lambda: tunnel.descriptors() <= before)
    await eventually(lambda: tunnel.cluster.faults.streams == 0)


async def _echo_once(host: str, word: bytes, port: int = 7) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(word)
    assert await reader.readexactly(len(word)) == word
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_has_finished_sending_still_gets_the_answer(tunnel: Rig) -> None:
    reader, writer = await asyncio.open_connection(str(await tunnel.address("web")), 80)
    writer.write(b"GET /bytes/3000000 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert len(answer.partition(b"\r\n\r\n")[2]) == 3_000_000


async def test_a_broken_stream_resets_the_client(tunnel: Rig) -> None:
    reader, writer = await asyncio.open_connection(str(await tunnel.address("echo")), 7)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    tunnel.cluster.faults.drop_streams()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            await reader.read()
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_credentials_that_are_not_accepted_are_reported_and_new_ones_used() -> None:
    tokens = {"good": ADMIN, "useless": User("useless")}
    async with rig(Traits(tokens=tokens)) as tunnel:
        server = tunnel.cluster.server
        await tunnel.start(Access(server, token="Bearer expired"))
        address = await tunnel.address("web")
        assert await error_of(address, 80) == errno.EHOSTUNREACH
        await eventually(lambda: Unauthorized() in tunnel.messages)
        await tunnel.reported(lambda values: "(401)" in values["state"])
        await tunnel.channel.send(Reach(Access(server, token="Bearer useless")))
        await tunnel.reported(lambda values: values["state"] == "ready")
        assert await error_of(address, 80) == errno.EHOSTUNREACH
        await tunnel.reported(lambda values: "(403)" in values["state"])
        await tunnel.channel.send(Reach(Access(server, token="Bearer good")))
        await tunnel.reported(lambda values: values["state"] == "ready")
        assert (await curl(url(address)))[0] == 0


async def test_routes_come_with_holds_and_go_with_what_allows_them(tunnel: Rig) -> None:
    web, outside = await tunnel.address("web"), ip_address("192.0.2.1")
    await tunnel.hold(outside, ip_address("127.0.0.2"))
    await tunnel.reported(lambda values: values["routes"] == [host_network(web)])
    reasons = {entry["net"]: entry["reason"] for entry in tunnel.values["not-routed"]}
    assert reasons == {"192.0.2.1": "outside-cluster-ranges", "127.0.0.2": "loopback"}
    never = HostRoutes(ALLOWED.allowed, ((ip_network(web), "never-proxy"),))
    await tunnel.channel.send(Routable(never))
    await tunnel.reported(lambda values: values["routes"] == [])
    await tunnel.channel.send(Routable(ALLOWED))
    await tunnel.reported(lambda values: values["routes"] == [host_network(web)])


async def test_nobody_is_told_of_routes_before_it_is_known_what_may_be_routed() -> None:
    async with rig() as tunnel:
        holding = asyncio.create_task(tunnel.address("web"))
        done, _ = await asyncio.wait([holding], timeout=0.2)
        assert not done
        await tunnel.start()
        assert await error_of(await holding, 80) == 0


async def test_a_service_that_goes_is_unreachable_a_moment_later(tunnel: Rig) -> None:
    address = await tunnel.address("web")
    assert await error_of(address, 80) == 0
    slices = [raw["metadata"]["name"] for raw in tunnel.cluster.objects("EndpointSlice", "shop")]
    await tunnel.feed(
        Change(Kind.SERVICE, ("shop", "web"), None), *(Change(Kind.SLICE, ("shop", name), None) for name in slices)
    )
    async with asyncio.timeout(20):
        while await error_of(address, 80) != errno.EHOSTUNREACH:
            await asyncio.sleep(0.01)


async def test_another_process_takes_over_when_one_is_killed(tunnel: Rig) -> None:
    address = await tunnel.address("web")
    tunnel.process.kill()
    await tunnel.process.wait()
    async with process_on(tunnel.device, tunnel.cluster) as second:
        await second.start()
        await second.reported(lambda values: values["routes"] == [host_network(address)])
        assert (await curl(url(address)))[0] == 0


async def test_with_the_last_descriptor_device_and_routes_are_gone() -> None:
    async with rig() as tunnel:
        await tunnel.start()
        await tunnel.address("web")
        ifindex = tunnel.device.ifindex
        tunnel.process.kill()
        await tunnel.process.wait()
    netlink = Netlink()
    try:
        await eventually(lambda: "rtest0" not in {name for _, name in socket.if_nameindex()})
        assert netlink.routes(ifindex) == []
    finally:
        netlink.close()
