"""Peers that mean harm, in full numbers: noise, broken queries, and connections that only cost.

After each of these a usual query is still answered, and the process has the descriptors and the memory it had.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from dns_cluster import CONFIG
from dns_wire import COOKIE, HERE, MANY, NOPE, WEB, Reply, crowd, opt, query, read
from fakes import eventually
from test_dns_server import closed, frame, serving
from test_dns_worker import Running, feed, running

from resolverd.dns.dispatch import Dispatcher
from resolverd.dns.message import HEADER_SIZE
from resolverd.dns.tcp import MAX_CONNECTIONS, TcpServer
from resolverd.host import Server
from resolverd.sockets import BACKLOG, listen

GUARD = 20.0
"""Seconds; only a hang takes that long."""
CONNECTIONS = 10_000
"""At one time, as far as the limit of descriptors lets us."""
EVERY = 128
"""Hostile datagrams between two usual queries."""
MAX_GROWTH = 100 * 1024
"""KiB that the process may grow by."""
GOOD = (
    query(WEB),
    query(WEB, 1, opt(options=COOKIE)),
    query("crowd60.shop", 33, opt(4096)),
    query(NOPE, 28, opt()),
    query("inside.shop", 1, opt(512)),
    query("_http._tcp.web.shop", 33),
    query("7.0.96.10.in-addr.arpa", 12, opt()),
    query("example.com", 15, opt(flags=0x8000)),
)


def noise(chance: random.Random) -> bytes:
    """A datagram of random octets; half of them begin like a query with one question."""
    head = b"\0\7\1\0\0\1" + bytes(6) if chance.random() < 0.5 else b""
    return head + chance.randbytes(chance.randrange(64))


def mutated(chance: random.Random) -> bytes:
    """A query with a few octets changed, taken out or put in, or cut off, or doubled."""
    data = bytearray(chance.choice(GOOD))
    for _ in range(chance.randrange(1, 5)):
        if not data:
            break
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.choice((0, 1, 0x3F, 0x40, 0xC0, 0xFF))
            case 2:
                data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            case 3:
                del data[max(place, 1) :]
            case _:
                data += data[place:]
    return bytes(data)


@dataclass
class Target:
    """A DNS process under attack, and what it had before."""

    worker: Running
    descriptors: int
    peak: int

    def udp(self) -> socket.socket:
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.settimeout(GUARD)
        end.connect(("127.0.0.1", self.worker.port))
        return end

    def tcp(self) -> socket.socket:
        end = socket.create_connection(("127.0.0.1", self.worker.port), GUARD)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return end

    def served(self) -> None:
        """AssertionError unless new clients are served, over UDP and TCP."""
        with self.udp() as end:
            end.send(query(WEB, number=9))
            assert read(end.recv(65535)).answer
        with self.tcp() as end:
            end.sendall(frame(query(WEB, number=9)))
            assert next(replies(end)).answer


def replies(end: socket.socket) -> Iterator[Reply]:
    with end.makefile("rb") as stream:
        while head := stream.read(2):
            yield read(stream.read(struct.unpack("!H", head)[0]))


def _open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _peak(pid: int) -> int:
    """KiB of memory at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@asynccontextmanager
async def attacked() -> AsyncIterator[Target]:
    """A DNS process; afterwards it has what it had before, and still answers."""
    async with running() as worker:
        await worker.channel.send(CONFIG)
        await worker.channel.send(feed())
        await worker.channel.send(feed(tuple(crowd(MANY))))
        await worker.until(f"crowd{MANY}.shop", "NOERROR")
        pid = worker.process.pid
        target = Target(worker, _open_descriptors(pid), _peak(pid))
        yield target
        await asyncio.to_thread(target.served)
        await eventually(lambda: _open_descriptors(pid) <= target.descriptors + 1)
        assert _peak(pid) - target.peak <= MAX_GROWTH


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("make", "count"), [(noise, 100_000), (mutated, 25_000)])
async def test_whatever_datagrams_come_replies_are_well_formed(
    make: Callable[[random.Random], bytes], count: int
) -> None:
    chance, usual = random.Random(count), query("bare.shop")
    async with attacked() as target:
        with target.udp() as end:
            for _ in range(0, count, EVERY):
                for _ in range(EVERY):
                    end.send(make(chance))
                end.send(usual)
                while (reply := read(end.recv(65535))).question != usual[HEADER_SIZE:]:
                    assert reply.size <= 1232
                assert reply.answer[0].data == IPv4Address("10.96.0.11")


@pytest.mark.timeout(600)
async def test_ten_thousand_connections() -> None:
    """Most of them idle; some that send one octet, announce a message, or reset at once. New clients are served."""
    chance = random.Random(10)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with attacked() as target:
        with ExitStack() as held:
            for number in range(min(CONNECTIONS, most - 200)):
                end = held.enter_context(target.tcp())
                end.sendall(chance.choice((b"", b"", b"", b"\0", b"\xff\xff", frame(query(WEB)))))
                if chance.random() < 0.2:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                if number % 500 == 499:
                    target.served()
                    assert _open_descriptors(target.worker.process.pid) <= target.descriptors + MAX_CONNECTIONS + 2
            target.served()


async def test_askers_over_tcp_that_vanish_or_never_read() -> None:
    async with attacked() as target:
        large = frame(query(f"crowd{MANY}.shop"))
        greedy = [target.tcp() for _ in range(20)]
        for end in greedy:
            end.setblocking(False)
        for _ in range(30):
            for end in greedy:
                try:
                    end.send(large * 1000)
                except BlockingIOError:
                    continue
            target.served()
        for end in greedy:
            end.close()


async def test_a_thousand_queries_in_one_go() -> None:
    async with attacked() as target:
        with closing(target.tcp()) as end:
            end.sendall(b"".join(frame(query(WEB, number=number)) for number in range(1000)))
            end.shutdown(socket.SHUT_WR)
            assert sorted(reply.number for reply in replies(end)) == list(range(1000))


async def test_a_query_that_trickles_in_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolverd.dns.tcp.FIRST_QUERY", 0.3)
    async with serving() as here:
        reader, writer = await here.connect()
        ending = asyncio.create_task(closed(reader))
        for octet in frame(query(WEB, 1, opt()))[:-1]:
            if ending.done():
                break
            writer.write(bytes((octet,)))
            await asyncio.sleep(0.05)
        assert await ending
        assert here.responder.queries == 0
        writer.close()


async def test_the_queue_of_connections_is_as_long_as_asked_for() -> None:
    """Who finds it full is let in a second later; asyncio by itself makes it 100."""
    listening = listen(Server(ip_address("127.0.0.1"), 0))
    server = TcpServer(Dispatcher(HERE))
    with listening.udp:
        watched = listening.tcp.dup()
        await server.listen(listening.tcp)
        with watched:
            longest = struct.unpack_from("=I", watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)[0]
        server.close()
    assert longest == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
