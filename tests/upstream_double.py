"""Another DNS server, on loopback, that does what a test says; and our own server that forwards to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from dns_cluster import CONFIG, OBJECTS, SERIAL, name_of, put
from dns_wire import HEADER, Reply, read, wire

from resolverd.cluster.objects import ClusterObject
from resolverd.dns.cluster_dns import ClusterDns
from resolverd.dns.dispatch import Dispatcher
from resolverd.dns.forward import Forwarder
from resolverd.dns.holds_client import HoldsClient
from resolverd.dns.probes import PREFIX
from resolverd.dns.records import Type
from resolverd.dns.responder import Responder
from resolverd.dns.rules import DnsConfig
from resolverd.dns.server import UdpServer
from resolverd.dns.tcp import TcpServer
from resolverd.dns.upstream import Upstream
from resolverd.dns.worker import adopt
from resolverd.host import Server

GUARD = 20.0
"""Seconds; only a hang takes that long."""
LOCALHOST = ip_address("127.0.0.1")
PATIENT = 15.0
"""A lookup timeout, in seconds, that no test waits for."""


def record(owner: str | None, kind: int, ttl: int, data: bytes) -> bytes:
    """A record; without an owner it belongs to the question's name."""
    name = b"\xc0\x0c" if owner is None else wire(name_of(owner))
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def a(address: str = "192.0.2.1", ttl: int = 300, owner: str | None = None) -> bytes:
    return record(owner, Type.A, ttl, ip_address(address).packed)


def cname(target: str, ttl: int = 300, owner: str | None = None) -> bytes:
    return record(owner, Type.CNAME, ttl, wire(name_of(target)))


def soa(ttl: int = 900, minimum: int = 60) -> bytes:
    numbers = struct.pack("!IIIII", 1, 7200, 1800, 86400, minimum)
    return record("example.com", Type.SOA, ttl, wire(name_of("ns.example.com")) + wire(()) + numbers)


def asked_question(query: bytes) -> bytes:
    end = query.index(0, 12) + 5
    return query[12:end]


def reply_to(
    query: bytes,
    *answer: bytes,
    rcode: int = 0,
    flags: int = 0x8180,
    authority: Sequence[bytes] = (),
    additional: Sequence[bytes] = (),
) -> bytes:
    counts = (1, len(answer), len(authority), len(additional))
    header = HEADER.pack(int.from_bytes(query[:2], "big"), flags | rcode, *counts)
    return header + asked_question(query) + b"".join((*answer, *authority, *additional))


Says = Callable[[bytes, bool], Awaitable[list[bytes]]]
"""From a query, and whether it came over TCP, to the messages that are sent back."""


def always(*answer: bytes, **more: Any) -> Says:
    async def says(query: bytes, tcp: bool) -> list[bytes]:
        return [reply_to(query, *answer, **more)]

    return says


async def silence(query: bytes, tcp: bool) -> list[bytes]:
    return []


@dataclass
class UpstreamDouble(asyncio.DatagramProtocol):
    """Remembers what it was asked, and says what it is told to."""

    says: Says
    asked: list[bytes] = field(default_factory=list)
    over_tcp: list[bytes] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _closers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def server(self) -> Server:
        return Server(LOCALHOST, self.port)

    def questions(self) -> list[bytes]:
        """Over UDP, without those that are to find a loop."""
        asked = map(asked_question, self.asked)
        return [question for question in asked if question[1 : 1 + len(PREFIX)] != PREFIX]

    async def start(self, host: str = "127.0.0.1") -> None:
        loop = asyncio.get_running_loop()
        bound, listening = bind_pair(host)
        self.port = bound.getsockname()[1]
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=bound)
        stream = await asyncio.start_server(self._on_connection, sock=listening)
        self._closers += [self.transport.close, stream.close]

    def close(self) -> None:
        """Be gone: whoever asks now is refused. May be called twice."""
        while self._closers:
            self._closers.pop()()
        for task in self._tasks:
            task.cancel()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked.append(data)
        self.peers.append(addr)
        task = asyncio.get_running_loop().create_task(self._answer(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, peer: Any) -> None:
        for reply in await self.says(data, False):
            self.transport.sendto(reply, peer)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            query = await reader.readexactly(length)
            self.over_tcp.append(query)
            for reply in await self.says(query, True):
                writer.write(struct.pack("!H", len(reply)) + reply)
        except asyncio.IncompleteReadError:
            pass  # whoever connected gave up
        finally:
            writer.close()


@asynccontextmanager
async def upstream(says: Says, host: str = "127.0.0.1") -> AsyncIterator[UpstreamDouble]:
    made = UpstreamDouble(says)
    await made.start(host)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


def bind_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket with one port, both kept: no other test can take one of them."""
    while True:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((host, 0))
        try:
            return bound, socket.create_server(bound.getsockname())
        except OSError:
            bound.close()


@dataclass
class Clock:
    """Time that passes when a test says so, in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Forwarding:
    """Our server, on loopback."""

    port: int
    responder: Responder
    forwarder: Forwarder
    clock: Clock

    def configure(self, config: DnsConfig) -> None:
        services = (each for each in self.forwarder.cluster if isinstance(each, ClusterDns))
        adopt(config, self.responder, self.forwarder, services)

    async def ask(self, query: bytes) -> Reply:
        """The reply to ``query`` over UDP, from a socket of its own; AssertionError unless its id is right."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.connect(("127.0.0.1", self.port))
            await loop.sock_sendall(end, query)
            reply = read(await asyncio.wait_for(loop.sock_recv(end, 65535), GUARD))
        assert reply.number == int.from_bytes(query[:2], "big")
        assert not reply.question or reply.question == asked_question(query)
        return reply

    async def ask_over_tcp(self, query: bytes) -> Reply:
        async with asyncio.timeout(GUARD):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = await reader.readexactly(length)
            writer.close()
        return read(reply)


@asynccontextmanager
async def forwarding(
    *servers: Server,
    config: DnsConfig = CONFIG,
    within: float = PATIENT,
    cluster: Callable[[Responder], Sequence[Upstream]] = lambda _: (),
    holds: HoldsClient | None = None,
    objects: Sequence[ClusterObject] = OBJECTS,
) -> AsyncIterator[Forwarding]:
    """Our server, with ``servers`` as its upstreams and ``within`` seconds for each question."""
    responder = Responder()
    responder.fold(tuple(map(put, objects)), synced=True, serial=SERIAL)
    clock = Clock()
    dispatcher = Dispatcher(responder, holds, clock)
    forwarder = dispatcher.forwarder = Forwarder(cluster(responder), responder.probes, clock)
    bound, listening = bind_pair("127.0.0.1")
    udp, tcp = UdpServer(bound, dispatcher), TcpServer(dispatcher, 50)
    await tcp.listen(listening)
    here = Forwarding(listening.getsockname()[1], responder, forwarder, clock)
    here.configure(replace(config, upstreams=servers, lookup_timeout=within))
    try:
        yield here
    finally:
        udp.close()
        tcp.close()
        await forwarder.close()
        await asyncio.sleep(0)


def reason(reply: Reply) -> str:
    """The words of a reply's extended error."""
    body = reply.opt.data if reply.opt else b""
    assert isinstance(body, bytes)
    return body[6:].decode()


def extended_error(reply: Reply) -> int | None:
    """The code of a reply's extended error."""
    body = reply.opt.data if reply.opt else b""
    assert isinstance(body, bytes)
    return int(struct.unpack_from("!H", body, 4)[0]) if body[:2] == b"\0\x0f" else None
