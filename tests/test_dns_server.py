"""The servers on real loopback sockets, and the holds socket between them and a tunnel."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from dns_cluster import SERIAL, put, service
from dns_wire import MANY, WEB, Reply, opt, query, read, responder
from fakes import eventually

from resolverd.dns import holds_client
from resolverd.dns.burst import PlainBurst, burst_of
from resolverd.dns.dispatch import Dispatcher
from resolverd.dns.holds_client import HoldsClient
from resolverd.dns.responder import Responder
from resolverd.dns.server import UdpServer
from resolverd.dns.tcp import TURN, TcpConnection, TcpServer
from resolverd.holds import decode_request, encode_reply
from resolverd.host import Server
from resolverd.sockets import listen

GUARD = 20.0
"""Seconds; only a hang takes that long."""


@dataclass
class Tunnel:
    """The other end of the holds socket: remembers what it was asked for, and answers when told to."""

    end: socket.socket
    answers: bool = True

    def __post_init__(self) -> None:
        self.end.setblocking(False)
        self.asked: list[list[str]] = []
        self.numbers: list[int] = []
        asyncio.get_running_loop().add_reader(self.end, self._on_request)

    def _on_request(self) -> None:
        number, addresses = decode_request(self.end.recv(65536))
        self.asked.append([str(address) for address in addresses])
        self.numbers.append(number)
        if self.answers:
            self.reply(number)

    def reply(self, number: int) -> None:
        self.end.send(encode_reply(number))

    def close(self) -> None:
        """May be called twice."""
        if self.end.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.end)
            self.end.close()


@dataclass
class Here:
    """A running server."""

    port: int
    responder: Responder
    tcp: TcpServer
    tunnel: Tunnel | None

    async def udp(self, data: bytes) -> Reply:
        """The reply to ``data``, from a socket of its own."""
        with self.client() as end:
            await asyncio.get_running_loop().sock_sendall(end, data)
            return await self.received(end)

    def client(self) -> socket.socket:
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.setblocking(False)
        end.connect(("127.0.0.1", self.port))
        return end

    async def received(self, end: socket.socket) -> Reply:
        return read(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 65535), GUARD))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)


@asynccontextmanager
async def serving(*, holds: bool = False, limit: int = 50) -> AsyncIterator[Here]:
    made = responder()
    dispatcher = Dispatcher(made)
    tunnel = None
    if holds:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dispatcher.holds = HoldsClient(ours, made.memo.clear)
        tunnel = Tunnel(theirs)
    listening = listen(Server(ip_address("127.0.0.1"), 0))
    udp, tcp = UdpServer(listening.udp, dispatcher), TcpServer(dispatcher, limit)
    await tcp.listen(listening.tcp)
    try:
        yield Here(listening.server.port, made, tcp, tunnel)
    finally:
        udp.close()
        tcp.close()
        if dispatcher.holds and tunnel:
            dispatcher.holds.close()
            tunnel.close()
        await asyncio.sleep(0)


def frame(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


async def next_reply(reader: asyncio.StreamReader) -> Reply:
    (length,) = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), GUARD))
    return read(await asyncio.wait_for(reader.readexactly(length), GUARD))


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection."""
    try:
        return await asyncio.wait_for(reader.read(1), GUARD) == b""
    except ConnectionError:
        return True


@pytest.fixture(params=[burst_of, PlainBurst])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How datagrams are taken."""
    monkeypatch.setattr("resolverd.dns.server.burst_of", request.param)


@pytest.mark.usefixtures("way")
class TestUdp:
    async def test_replies_carry_the_questions_of_their_ids(self) -> None:
        names = ["web.shop", "db.shop", "nope.shop", "example.com", "inside.shop", "shop"]
        async with serving() as here:
            with here.client() as end:
                for number in range(600):
                    end.send(query(names[number % 6], number=number))
                    if number >= 40:
                        reply = await here.received(end)
                        assert reply.question == query(names[reply.number % 6])[12:]

    @pytest.mark.parametrize("size", [0, 1, 11, 4096, 5000, 65507])
    async def test_datagrams_of_odd_sizes_do_no_harm(self, size: int) -> None:
        async with serving() as here:
            with here.client() as end:
                end.send(bytes(size))
                end.send(query(WEB, number=7))
                while (await here.received(end)).number != 7:
                    pass

    async def test_askers_that_vanish_harm_nobody(self) -> None:
        async with serving() as here:
            for _ in range(800):
                with here.client() as end:
                    end.send(query(WEB))
            assert (await here.udp(query(WEB))).rcode == 0

    async def test_an_error_about_an_earlier_reply_is_passed_over(self) -> None:
        """Only a connected socket is told that a peer is gone, without asking for it."""
        troubles: list[dict[str, object]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: troubles.append(context))
        bound, asker = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for end in (bound, asker):
            end.bind(("127.0.0.1", 0))
        where, served = asker.getsockname(), bound.getsockname()
        bound.connect(where)
        made = responder()
        server = UdpServer(bound, Dispatcher(made))
        asker.sendto(query(WEB), served)
        asker.close()
        await eventually(lambda: made.queries == 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.bind(where)
            end.setblocking(False)
            end.sendto(query(WEB, number=5), served)
            assert read(await asyncio.wait_for(loop.sock_recv(end, 65535), GUARD)).number == 5
        server.close()
        assert troubles == []

    async def test_a_burst_is_answered_in_full(self) -> None:
        async with serving() as here:
            with here.client() as end:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                for number in range(200):
                    end.send(query(WEB, number=number))
                assert {(await here.received(end)).number for _ in range(200)} == set(range(200))
            assert here.responder.queries == 200
            assert here.responder.rcodes == {"NOERROR": 200}


class Sink(asyncio.Transport):
    """A peer that takes all it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def write(self, data: object) -> None:
        self.sent += 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class TestTcp:
    async def test_others_have_a_turn_before_many_queries_of_one_are_answered(self) -> None:
        async with serving() as here:
            one, peer = TcpConnection(here.tcp), Sink()
            one.connection_made(peer)
            one.data_received(frame(query(WEB)) * (2 * TURN + 10))
            assert peer.sent == TURN
            await eventually(lambda: peer.sent == 2 * TURN + 10)
            one.connection_lost(None)

    async def test_many_queries_in_one_segment(self) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(b"".join(frame(query(WEB, number=n)) for n in range(150)))
            assert {(await next_reply(reader)).number for _ in range(150)} == set(range(150))
            writer.close()

    async def test_large_answers_read_late(self) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(b"".join(frame(query(f"crowd{MANY}.shop", number=n)) for n in range(120)))
            await here.udp(query(WEB))
            assert [len((await next_reply(reader)).answer) for _ in range(120)] == [MANY] * 120
            writer.close()

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 29])
    async def test_segments_with_any_borders(self, step: int) -> None:
        stream = frame(query(WEB, number=1)) + frame(query("db.shop", 33, opt(512), number=2))
        async with serving() as here:
            reader, writer = await here.connect()
            for start in range(0, len(stream), step):
                writer.write(stream[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
            assert [(await next_reply(reader)).number for _ in range(2)] == [1, 2]
            writer.close()

    async def test_after_a_half_close_the_answers_still_come(self) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(b"".join(frame(query(f"crowd{MANY}.shop", number=n)) for n in range(100)))
            writer.write_eof()
            for _ in range(100):
                assert (await next_reply(reader)).rcode == 0
            assert await closed(reader)
            writer.close()

    @pytest.mark.parametrize("length", [0, 1, 11])
    async def test_frames_too_short_end_the_connection(self, length: int) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(frame(bytes(length)))
            assert await closed(reader)
            writer.close()
            assert (await here.udp(query(WEB))).rcode == 0

    async def test_silence_where_it_is_due_then_the_next(self) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(frame(query(WEB, flags=0x8000)) + frame(query(WEB, number=5)))
            writer.write_eof()
            assert (await next_reply(reader)).number == 5
            assert await closed(reader)
            writer.close()

    async def test_a_reader_that_never_reads_is_neither_read_from_nor_written_to_without_end(self) -> None:
        async with serving() as here:
            reader, writer = await here.connect()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(frame(query(f"crowd{MANY}.shop")) * 1_000_000)
            others, to_others = await here.connect()
            for _ in range(20):
                to_others.write(frame(query(WEB)))
                assert (await next_reply(others)).rcode == 0
                await asyncio.sleep(0.01)
            assert here.responder.queries < 10_000
            assert writer.transport.get_write_buffer_size() > 0
            writer.transport.abort()
            to_others.transport.abort()
            await eventually(lambda: len(here.tcp) == 0)

    async def test_connections_are_bounded_and_the_longest_idle_goes(self) -> None:
        async with serving(limit=10) as here:
            idle = [await here.connect() for _ in range(40)]
            await eventually(lambda: len(here.tcp) == 10)
            reader, writer = await here.connect()
            writer.write(frame(query(WEB)))
            assert (await next_reply(reader)).rcode == 0
            assert await closed(idle[0][0])
            for _, end in [*idle, (reader, writer)]:
                end.close()

    async def test_idle_connections_are_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resolverd.dns.tcp.FIRST_QUERY", 0.0)
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(b"\0")
            assert await closed(reader)
            writer.close()

    async def test_connections_idle_after_a_query_are_dropped_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resolverd.dns.tcp.IDLE", 0.0)
        async with serving() as here:
            reader, writer = await here.connect()
            writer.write(frame(query(WEB)))
            assert (await next_reply(reader)).rcode == 0
            assert await closed(reader)
            writer.close()

    async def test_noise_on_streams(self) -> None:
        chance = random.Random(7)
        async with serving() as here:
            for _ in range(60):
                _, writer = await here.connect()
                writer.write(chance.randbytes(chance.randrange(1, 3000)))
                if chance.random() < 0.5:
                    writer.transport.abort()
                else:
                    writer.close()
            assert (await here.udp(query(WEB))).rcode == 0
            await eventually(lambda: len(here.tcp) == 0)


class TestHolds:
    async def test_addresses_are_held_before_the_answer_leaves_and_once_only(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query("dual.shop"))
            await here.udp(query("dual.shop"))
            await here.udp(query("dual.shop", 28))
            await here.udp(query("dual.shop", 33))
            assert here.tunnel.asked == [["10.96.0.9"], ["fd00:10:96::9"]]

    @pytest.mark.parametrize(
        ("name", "kind"), [("nope.shop", 1), ("cluster.local", 2), ("outside.shop", 1), ("x.com", 1)]
    )
    async def test_nothing_is_asked_for_answers_without_addresses(self, name: str, kind: int) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query(name, kind))
            assert here.tunnel.asked == []

    async def test_a_silent_tunnel_delays_but_does_not_stop_answers_or_others(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            here.tunnel.answers = False
            with here.client() as end:
                end.send(query("web.shop", number=1))
                end.send(query("web.shop", number=2))
                end.send(query("nope.shop", number=3))
                order = [(await here.received(end)).number for _ in range(3)]
            assert order == [3, 1, 2]
            assert here.tunnel.asked == [["10.96.0.7"]]
            await here.udp(query("web.shop"))
            assert len(here.tunnel.asked) == 1

    async def test_an_answer_waits_for_a_tunnel_that_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(holds_client, "PATIENCE", 3 * GUARD)
        async with serving(holds=True) as here:
            assert here.tunnel
            here.tunnel.answers = False
            with here.client() as end:
                end.send(query("web.shop", number=1))
                await eventually(lambda: bool(here.tunnel and here.tunnel.numbers))
                with pytest.raises(BlockingIOError):
                    end.recv(512)
                here.tunnel.reply(0)
                here.tunnel.reply(here.tunnel.numbers[0])
                assert (await here.received(end)).number == 1

    async def test_nobody_waits_for_what_is_routed_already(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(holds_client, "PATIENCE", 3 * GUARD)
        monkeypatch.setattr(holds_client, "HELD", 0.0)
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query("web.shop"))
            here.tunnel.answers = False
            await here.udp(query("web.shop"))
            here.tunnel.reply(0)
            await eventually(lambda: len(here.responder.memo) == 0)
            await here.udp(query("web.shop"))
            assert here.tunnel.asked == [["10.96.0.7"]] * 2

    async def test_a_route_may_have_ended_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(holds_client, "HELD", 0.0)
        monkeypatch.setattr(holds_client, "ROUTED", 0.0)
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query("web.shop"))
            here.tunnel.answers = False
            with here.client() as end:
                end.send(query("web.shop", number=1))
                await eventually(lambda: len(here.tunnel.numbers if here.tunnel else ()) == 2)
                with pytest.raises(BlockingIOError):
                    end.recv(512)
                here.tunnel.reply(here.tunnel.numbers[1])
                assert (await here.received(end)).number == 1

    async def test_large_answers_take_several_requests(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            reader, writer = await here.connect()
            writer.write(frame(query(f"crowd{MANY}.shop")))
            writer.write_eof()
            assert len((await next_reply(reader)).answer) == MANY
            assert await closed(reader)
            assert [len(asked) for asked in here.tunnel.asked] == [512, 512, 512, 464]
            writer.close()

    async def test_a_tunnel_that_began_anew_is_asked_again(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query("web.shop"))
            here.tunnel.reply(0)
            await eventually(lambda: len(here.responder.memo) == 0)
            await here.udp(query("web.shop"))
            assert here.tunnel.asked == [["10.96.0.7"]] * 2

    async def test_replies_to_a_process_before_this_one_mean_nothing(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            here.tunnel.answers = False
            for number in range(1, 20):
                here.tunnel.reply(number)
            await here.udp(query("web.shop"))
            await here.udp(query("bare.shop"))
            assert here.tunnel.asked == [["10.96.0.7"], ["10.96.0.11"]]
            assert not set(here.tunnel.numbers) & set(range(20))

    async def test_a_changed_address_is_held_too(self) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            await here.udp(query("web.shop"))
            changed = service("web", clusterIPs=["10.96.0.99"])
            here.responder.fold((put(changed),), synced=True, serial=SERIAL + 1)
            await here.udp(query("web.shop"))
            assert here.tunnel.asked == [["10.96.0.7"], ["10.96.0.99"]]

    @pytest.mark.parametrize("spoil", [Tunnel.close, lambda tunnel: tunnel.end.send(b"nonsense")])
    async def test_without_a_tunnel_answers_leave(self, spoil: Callable[[Tunnel], object]) -> None:
        async with serving(holds=True) as here:
            assert here.tunnel
            here.tunnel.answers = False
            spoil(here.tunnel)
            for name in ("web.shop", "web.shop", "bare.shop"):
                assert (await here.udp(query(name))).rcode == 0
