"""The worker process, as the daemon starts it, asked by our own client and by dig."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import dnslib
import pytest
from dns_cluster import CONFIG, OBJECTS, SERIAL, index_of, put, short
from dns_cluster import ask as ask_index
from dns_wire import crowd, responder
from upstream_double import a, always, upstream

from resolverd.channel import Channel
from resolverd.cluster.objects import ClusterObject, Namespace
from resolverd.dns import client, worker
from resolverd.dns.worker import SLICE, take_in
from resolverd.errors import HostError, ResolverdError, UsageError
from resolverd.feed import Feed, Ready, Report
from resolverd.host import Server
from resolverd.sockets import listen

GUARD = 20.0
"""Seconds; only a hang takes that long."""


def feed(objects: tuple[ClusterObject, ...] = OBJECTS) -> Feed:
    return Feed(tuple(map(put, objects)), True, SERIAL)


@dataclass
class Running:
    """A worker and the daemon's end of its channel."""

    channel: Channel
    port: int
    process: asyncio.subprocess.Process

    async def ask(self, name: str, kind: str = "A") -> client.Answered:
        return await asyncio.to_thread(client.query, "127.0.0.1", self.port, name, kind)

    async def until(self, name: str, rcode: str) -> None:
        """Wait until ``name`` gets ``rcode``."""
        async with asyncio.timeout(GUARD):
            while (await self.ask(name)).rcode != rcode:
                await asyncio.sleep(0.01)

    async def message(self) -> object:
        return await asyncio.wait_for(self.channel.receive(), GUARD)

    async def report(self) -> Report:
        """The next report; what else the worker says is passed over."""
        while True:
            message = await self.message()
            if isinstance(message, Report):
                return message


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    ours, theirs = socket.socketpair()
    listening = listen(Server(ip_address("127.0.0.1"), 0))
    handed = {"--channel": theirs.fileno(), "--udp": listening.udp.fileno(), "--tcp": listening.tcp.fileno()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "resolverd.dns.worker"),
        *(str(part) for pair in handed.items() for part in pair),
        pass_fds=tuple(handed.values()),
    )
    theirs.close()
    listening.close()
    channel = await Channel.over(ours)
    try:
        worker = Running(channel, listening.server.port, process)
        assert await worker.message() == Ready("dns")
        yield worker
    finally:
        await channel.close()
        assert await asyncio.wait_for(process.wait(), GUARD) == 0


async def test_from_the_first_second_to_the_last() -> None:
    async with running() as worker:
        assert (await worker.ask("web.shop.svc.cluster.local")).rcode == "SERVFAIL"
        await worker.channel.send(CONFIG)
        await worker.channel.send(feed())
        await worker.until("web.shop", "NOERROR")
        assert (await worker.ask("web.shop")).short() == ["10.96.0.7"]
        assert (await worker.ask("_http._tcp.web.shop", "SRV")).short() == ["0 100 80 web.shop.svc.cluster.local."]
        assert (await worker.ask("10.96.0.7", "PTR")).short() == ["web.shop.svc.cluster.local."]
        assert (await worker.ask("dns-version.cluster.local", "TXT")).short() == ['"1.1.0"']
        assert (await worker.ask("nope.shop")).rcode == "NXDOMAIN"


async def test_names_of_others_are_asked_of_others() -> None:
    async with upstream(always(a())) as other, running() as worker:
        await worker.channel.send(replace(CONFIG, upstreams=(other.server,)))
        await worker.channel.send(feed())
        await worker.until("www.example.com", "NOERROR")
        assert (await worker.ask("www.example.com")).short() == ["192.0.2.1"]
        assert (await worker.ask("outside.shop")).short() == ["db.Example.com.", "192.0.2.1"]
        async with asyncio.timeout(GUARD):
            while True:
                message = await worker.report()
                if message.values["forwarded"] == {"asked": 2, "cached": 1, "stale": 0, "failed": 0}:
                    break


async def test_reports_count_what_was_answered() -> None:
    async with running() as worker:
        await worker.channel.send(CONFIG)
        await worker.channel.send(feed())
        await worker.until("web.shop", "NOERROR")
        await worker.ask("nope.shop")
        async with asyncio.timeout(GUARD):
            while True:
                message = await worker.report()
                rcodes = message.values["rcodes"]
                assert isinstance(rcodes, dict)
                assert message.worker == "dns"
                assert message.values["queries"] == sum(rcodes.values())
                if rcodes.get("NXDOMAIN") == 1:
                    break


async def test_large_answers_come_over_tcp() -> None:
    async with running() as worker:
        await worker.channel.send(CONFIG)
        await worker.channel.send(feed((Namespace("shop"), *crowd(500))))
        await worker.until("crowd500.shop", "NOERROR")
        assert len((await worker.ask("crowd500.shop")).short()) == 500


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
async def test_dig_agrees() -> None:
    async with running() as worker:
        await worker.channel.send(CONFIG)
        await worker.channel.send(feed())
        await worker.until("web.shop", "NOERROR")
        for name, kind in (("web.shop", "A"), ("dual.shop", "AAAA"), ("twins.shop", "SRV"), ("outside.shop", "CNAME")):
            for transport in ("+notcp", "+tcp"):
                command = ["dig", "@127.0.0.1", "-p", str(worker.port), "+short", transport, name, kind]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=GUARD)
                assert sorted(done.stdout.split("\n")[:-1]) == sorted(
                    short(ask_index(name, kind, index_of())).split(", ")
                )


async def test_the_process_imports_nothing_heavy() -> None:
    program = "import resolverd.dns.worker, sys; print(*sys.modules)"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "resolverd" in loaded
    assert not loaded & {"kubernetes", "aiohttp", "click", "yaml", "dnslib"}


async def test_a_big_feed_is_taken_in_slices_with_turns_for_others_between() -> None:
    here = responder(objects=())
    objects = [Namespace("shop"), *(item for size in range(SLICE, SLICE + 6) for item in crowd(size))]
    turns = []

    async def others() -> None:
        while True:
            turns.append(here.index.snapshot.synced)
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await take_in(here, Feed(tuple(map(put, objects)), True, SERIAL + 1))
    task.cancel()
    assert len(turns) >= 5
    assert set(here.index.snapshot.services) >= {("shop", f"crowd{size}") for size in range(SLICE, SLICE + 6)}
    assert here.index.snapshot.serial == SERIAL + 1


async def test_what_is_asked_while_a_slice_is_folded_waits_for_no_other_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    here = responder(objects=())
    objects = [item for size in range(SLICE, SLICE + 4) for item in crowd(size)]
    loop = asyncio.get_running_loop()
    happened = []
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    fold = worker._fold

    def folded(*given: Any) -> None:
        fold(*given)
        happened.append("folded")
        ours.send(b"?")

    with ours, theirs:
        monkeypatch.setattr(worker, "_fold", folded)
        loop.add_reader(theirs, lambda: happened.append(theirs.recv(1).decode()))
        await take_in(here, Feed(tuple(map(put, objects)), True, SERIAL))
        loop.remove_reader(theirs)
    assert len(happened) >= 7
    assert happened[:-1] == ["folded", "?"] * (len(happened) // 2)


async def test_until_the_last_slice_is_in_nothing_is_denied() -> None:
    from resolverd.dns.responder import Responder

    here = Responder(CONFIG)
    objects = [Namespace("shop"), *(item for size in range(SLICE, SLICE + 3) for item in crowd(size))]
    seen = []

    async def others() -> None:
        while True:
            seen.append(short(ask_index("nope.shop", "A", here.index)))
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await take_in(here, Feed(tuple(map(put, objects)), True, SERIAL))
    task.cancel()
    assert seen
    assert set(seen) == {"SERVFAIL"}
    assert short(ask_index("nope.shop", "A", here.index)) == "NXDOMAIN"


@contextmanager
def answering(reply: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """A UDP server in a thread that answers one datagram as ``reply`` says; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(GUARD)
        end.bind(("127.0.0.1", 0))

        def serve() -> None:
            data, peer = end.recvfrom(4096)
            for wire in reply(data):
                end.sendto(wire, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield end.getsockname()[1]
        thread.join(GUARD)


class TestClient:
    @pytest.mark.parametrize(
        ("name", "kind"), [("web.shop", "NONSENSE"), ("a" * 64, "A"), (".".join(["a" * 60] * 5), "A"), ("a..b", "A")]
    )
    def test_what_cannot_be_asked(self, name: str, kind: str) -> None:
        with pytest.raises(UsageError):
            client.query("127.0.0.1", 9, name, kind)

    def test_nobody_there(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.bind(("127.0.0.1", 0))
            port = end.getsockname()[1]
        with pytest.raises(HostError, match="refused"):
            client.query("127.0.0.1", port, "web.shop")

    def test_nobody_answers(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.bind(("127.0.0.1", 0))
            port = end.getsockname()[1]
            with pytest.raises(HostError, match="no answer"):
                client.query("127.0.0.1", port, "web.shop", timeout=0.01)

    def test_garbage_is_an_error_of_ours(self) -> None:
        with (
            answering(lambda data: [data[:2] + b"\xff" * 30]) as port,
            pytest.raises(ResolverdError, match="understood"),
        ):
            client.query("127.0.0.1", port, "web.shop")

    def test_replies_to_other_questions_are_passed_over(self) -> None:
        def reply(data: bytes) -> list[bytes]:
            asked = dnslib.DNSRecord.parse(data)
            right = asked.reply()
            right.add_answer(*dnslib.RR.fromZone('web.shop. 5 TXT "a\\027[31mb"'))
            wrong = bytes(right.pack())
            return [bytes((wrong[0] ^ 1,)) + wrong[1:], wrong]

        with answering(reply) as port:
            answered = client.query("127.0.0.1", port, "web.shop", "TXT")
        assert answered.rcode == "NOERROR"
        assert len(answered.short()) == 1
        assert answered.short()[0].isprintable()
