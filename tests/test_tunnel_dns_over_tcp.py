"""DNS over UDP to the cluster's DNS service: carried over TCP, answered, and refused when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import pytest
from commands import shell
from dns_wire import opt, query, read
from fakes import eventually
from tunnel_rig import rig
from upstream_double import a, always, reply_to, upstream

from resolverd.names import Address
from resolverd_tunnel import dns_over_tcp, packet
from resolverd_tunnel.dns_over_tcp import DnsOverTcp
from resolverd_tunnel.packet import Opening
from resolverd_tunnel.transport import Stream, StreamBrokenError, TransportError

IP_RECVERR = 11
"""From linux/in.h; Python has no name for it."""
CLIENT, DNS = ip_address("198.18.53.1"), ip_address("10.96.0.10")


def datagram(message: bytes, port: int = 53, client_port: int = 40000) -> bytes:
    payload = struct.pack("!HHHH", client_port, port, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0x4000, 64, 17, 0)
    return head + CLIENT.packed + DNS.packed + payload


def octets_of(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@dataclass(eq=False)
class FakeServer:
    """One connection: what it was sent, and what it sends."""

    incoming: asyncio.Queue[bytes | Exception] = field(default_factory=asyncio.Queue)
    sent: list[bytes] = field(default_factory=list)
    closed: bool = False

    async def receive(self) -> bytes:
        item = await self.incoming.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def send(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self) -> None:
        self.closed = True

    def answer(self, number: int, **more: Any) -> None:
        self.incoming.put_nowait(octets_of(reply_to(self.sent[number][2:], a(), **more)))


@dataclass
class Scene:
    opened: list[FakeServer] = field(default_factory=list)
    error: Exception | None = None
    back: list[bytes] = field(default_factory=list)
    ends: list[Opening] = field(default_factory=list)

    def relay(self, is_dns: Callable[[Any], bool] = lambda _: True) -> DnsOverTcp:
        return DnsOverTcp(is_dns, self.open, self.back.append)

    async def open(self, ends: Opening) -> Stream:
        self.ends.append(ends)
        if self.error:
            raise self.error
        self.opened.append(FakeServer())
        return cast(Stream, self.opened[-1])


async def test_two_queries_with_one_number_share_a_connection() -> None:
    scene = Scene()
    relay = scene.relay()
    assert relay.take(datagram(query("one.example", number=7), client_port=1000))
    assert relay.take(datagram(query("two.example", number=7), client_port=2000))
    await eventually(lambda: bool(scene.opened) and len(scene.opened[0].sent) == 2)
    server = scene.opened[0]
    assert server.sent[0][2:4] != server.sent[1][2:4]
    server.answer(1)
    server.answer(0)
    await eventually(lambda: len(scene.back) == 2)
    for reply, name, port in zip(scene.back, (b"two", b"one"), (2000, 1000), strict=True):
        assert packet.opening(reply) == Opening(DNS, 53, CLIENT, port)
        message = packet.payload(reply)
        assert message[:2] == (7).to_bytes(2, "big")
        assert name in message
    assert scene.ends == [Opening(CLIENT, 0, DNS, 53)]
    await relay.close()
    assert server.closed


async def test_a_reply_in_pieces_and_one_that_nobody_asked_for() -> None:
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    server = scene.opened[0]
    reply = reply_to(server.sent[0][2:], a())
    for piece in (
        octets_of(b"\xff\xff" + reply[2:]),
        octets_of(reply)[:1],
        octets_of(reply)[1:20],
        octets_of(reply)[20:],
    ):
        server.incoming.put_nowait(piece)
    await eventually(lambda: bool(scene.back))
    assert relay.answered == len(scene.back) == 1
    await relay.close()


@pytest.mark.parametrize(("edns", "cut"), [(b"", True), (opt(700), True), (opt(1232), False)])
async def test_what_a_client_does_not_take_is_cut_off(edns: bytes, cut: bool) -> None:
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("many.example", edns=edns)))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    asked = scene.opened[0].sent[0][2:]
    scene.opened[0].incoming.put_nowait(octets_of(reply_to(asked, *[a(f"192.0.2.{n}", owner="b") for n in range(40)])))
    await eventually(lambda: bool(scene.back))
    reply = read(packet.payload(scene.back[0]))
    assert bool(reply.flags & 0x0200) is cut
    assert len(reply.answer) == (0 if cut else 40)
    await relay.close()


async def test_what_a_connection_that_ended_left_open_is_asked_again() -> None:
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    scene.opened[0].incoming.put_nowait(StreamBrokenError("it was idle"))
    await eventually(lambda: len(scene.opened) == 2 and bool(scene.opened[1].sent))
    assert scene.opened[0].closed
    scene.opened[1].answer(0)
    await eventually(lambda: len(scene.back) == 1)
    relay.take(datagram(query("two.example")))
    await eventually(lambda: len(scene.opened[1].sent) == 2)
    scene.opened[1].incoming.put_nowait(b"")  # an end in order, after a reply
    await eventually(lambda: len(scene.opened) == 3 and bool(scene.opened[2].sent))
    await relay.close()


async def test_a_server_that_never_answers_is_asked_twice() -> None:
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    scene.opened[0].incoming.put_nowait(b"")
    await eventually(lambda: len(scene.opened) == 2 and bool(scene.opened[1].sent))
    scene.opened[1].incoming.put_nowait(b"")
    await eventually(lambda: scene.opened[1].closed)
    await asyncio.sleep(0.01)
    assert len(scene.opened) == 2
    await relay.close()


async def test_a_query_whose_client_has_given_up_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_over_tcp, "PATIENCE", 0.0)
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    scene.opened[0].incoming.put_nowait(b"")
    await eventually(lambda: scene.opened[0].closed)
    await asyncio.sleep(0.05)
    assert len(scene.opened) == 1
    await relay.close()


async def test_an_idle_connection_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_over_tcp, "IDLE", 0.02)
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    scene.opened[0].answer(0)
    await eventually(lambda: scene.opened[0].closed)
    assert len(scene.back) == 1
    await relay.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing waits for queries any more"


async def test_a_server_that_fell_silent_is_left_although_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be stopped in its pod, which the kernel and the API server do not tell; another may answer."""
    monkeypatch.setattr(dns_over_tcp, "IDLE", 0.1)
    monkeypatch.setattr(dns_over_tcp, "MOST", 1_000_000)
    scene = Scene()
    relay = scene.relay()

    def ask() -> bool:
        relay.take(datagram(query("one.example")))
        return len(scene.opened) > 1

    await eventually(ask)
    await relay.close()


@pytest.mark.parametrize(("error", "code"), [(ConnectionRefusedError("no"), 3), (TransportError("dns", "no way"), 1)])
async def test_where_nobody_answers_the_client_is_told_at_once(error: Exception, code: int) -> None:
    scene = Scene(error=error)
    relay = scene.relay()
    assert relay.take(datagram(query("one.example")))
    await eventually(lambda: bool(scene.back))
    assert scene.back[0][20:22] == bytes((3, code))
    await relay.close()


async def test_other_datagrams_are_not_taken() -> None:
    relay = Scene().relay(lambda address: address != DNS)
    assert not relay.take(datagram(query("one.example")))
    assert not Scene().relay().take(datagram(query("one.example"), port=5353))
    assert Scene().relay().take(datagram(b"short"))


async def test_a_flood_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_over_tcp, "MOST", 5)
    scene = Scene()
    relay = scene.relay()
    for number in range(50):
        assert relay.take(datagram(query("one.example", number=number)))
    await eventually(lambda: bool(scene.opened) and len(scene.opened[0].sent) == 5)
    await asyncio.sleep(0.01)
    assert len(scene.opened[0].sent) == 5
    await relay.close()


async def test_what_was_answered_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_over_tcp, "MOST", 2)
    scene = Scene()
    relay = scene.relay()
    for number in range(10):
        relay.take(datagram(query("one.example", number=number)))
        await eventually(lambda: bool(scene.opened) and len(scene.opened[0].sent) == number + 1)  # noqa: B023
        scene.opened[0].answer(number)
        await eventually(lambda: len(scene.back) == number + 1)  # noqa: B023
    await relay.close()


async def test_a_reply_that_fits_no_packet_is_cut_off() -> None:
    scene = Scene()
    relay = scene.relay()
    relay.take(datagram(query("many.example", edns=opt(65535))))
    await eventually(lambda: bool(scene.opened) and bool(scene.opened[0].sent))
    reply = reply_to(scene.opened[0].sent[0][2:])
    scene.opened[0].incoming.put_nowait(octets_of(reply.ljust(65535, b"\0")))
    await eventually(lambda: bool(scene.back))
    assert read(packet.payload(scene.back[0])).flags & 0x0200
    await relay.close()


@pytest.mark.staged
async def test_dig_asks_the_clusters_dns_over_udp() -> None:
    async with rig() as tunnel, upstream(always(a("10.96.0.99"))) as coredns:
        await tunnel.start()
        tunnel.put_in_pod("coredns-0", 53, ("127.0.0.1", coredns.port))
        address = await tunnel.address("kube-dns", "kube-system")
        for _ in range(2):
            asked = await shell(f"dig +notcp +tries=1 +time=5 +short @{address} anything.example A")
            assert asked.out == "10.96.0.99\n"
        assert (len(coredns.over_tcp), coredns.asked) == (2, [])
        both = await shell(f"dig +notcp +tries=1 +time=5 +short @{address} a.example A b.example A")
        assert both.out == "10.96.0.99\n" * 2


@pytest.mark.staged
async def test_a_dns_service_without_pods_refuses() -> None:
    async with rig() as tunnel:
        await tunnel.start()
        address = await tunnel.address("kube-dns", "kube-system")
        tunnel.cluster.delete("Pod", "coredns-0", "kube-system")
        with asking(address) as client:
            client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)  # or UDP hides all but a refusal (ip(7))
            with pytest.raises(OSError, check=lambda error: error.errno == errno.EHOSTUNREACH):
                await reply_within(20, client)  # the pod is gone, and nobody has told the tunnel yet
        await tunnel.feed()
        with asking(address) as client:
            assert await is_refused(client)


@contextlib.contextmanager
def asking(address: Address) -> Iterator[socket.socket]:
    """A resolver's socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((str(address), 53))
        yield client


async def reply_within(seconds: float, client: socket.socket) -> bytes:
    """OSError when it is a refusal, TimeoutError."""
    client.send(query("one.example"))
    async with asyncio.timeout(seconds):
        return await asyncio.get_running_loop().sock_recv(client, 4096)


async def is_refused(client: socket.socket) -> bool:
    """Whether the reply is a refusal. As resolvers do, it asks again: what is told may come after a query."""
    for _ in range(20):
        try:
            await reply_within(1, client)
            break
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            continue
    return False
