"""The tunnel under load: everything arrives, nobody waits for another, nothing is left. RESOLVERD_STRESS=1 for all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bad_way import bad_way
from commands import shell
from fakes import eventually
from tunnel_rig import NAME, Rig, rig

from resolverd.cluster.access import Access
from resolverd.feed import Ask, Reach

pytestmark = [pytest.mark.staged, pytest.mark.timeout(1200 if "RESOLVERD_STRESS" in os.environ else 120)]

FULL = "RESOLVERD_STRESS" in os.environ
SIZE = (1024 if FULL else 64) * 2**20
PARALLEL = 2000 if FULL else 200
SEQUENTIAL = 20_000 if FULL else 300


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with rig() as made:
        await made.start()
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def echo_once(host: str, word: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, 7)
    writer.write(word)
    assert await reader.readexactly(len(word)) == word
    writer.close()
    await writer.wait_closed()


def memory(tunnel: Rig) -> int:
    """Octets of memory that the tunnel process has."""
    pages = int(Path(f"/proc/{tunnel.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def expected(size: int) -> str:
    found, block = hashlib.sha256(), bytes(range(256)) * 256
    for _ in range(size // len(block)):
        found.update(block)
    return found.hexdigest()


async def test_a_large_transfer_is_the_same_octet_for_octet(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    before = memory(tunnel)
    done = await asyncio.create_subprocess_shell(
        f"curl -sS http://{web}/bytes/{SIZE} | sha256sum", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await done.communicate()
    assert out.decode().split()[0] == expected(SIZE)
    assert memory(tunnel) - before < 32 * 2**20


async def test_many_at_once_and_many_in_a_row_leave_nothing(tunnel: Rig) -> None:
    host = str(await tunnel.address("echo"))

    async def at_once(count: int) -> None:
        await asyncio.gather(*(echo_once(host, b"number %d" % n) for n in range(count)))

    async def ended() -> None:
        await eventually(lambda: tunnel.cluster.faults.streams == 0, 60)
        await eventually(lambda: tunnel.descriptors() <= few, 60)

    await echo_once(host, b"first")
    await eventually(lambda: tunnel.cluster.faults.streams == 0)
    few = tunnel.descriptors() + 2  # the pulse may have one of its own
    await at_once(PARALLEL)
    await ended()
    before = memory(tunnel)
    for _ in range(SEQUENTIAL // 10):
        await at_once(10)
    await ended()
    assert memory(tunnel) - before < 16 * 2**20


async def test_a_reader_that_stops_stops_the_writer_and_nobody_else(tunnel: Rig) -> None:
    loop = asyncio.get_running_loop()
    web, echo = await tunnel.address("web"), await tunnel.address("echo")
    lazy = []
    before = memory(tunnel)
    for _ in range(8):
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, (str(web), 80))
        await loop.sock_sendall(client, b"GET /bytes/200000000 HTTP/1.1\r\nHost: web\r\n\r\n")
        lazy.append(client)
    await asyncio.sleep(0.5)
    await asyncio.wait_for(echo_once(str(echo), b"in time"), 5)
    try:
        await asyncio.wait_for(_stands_still(tunnel), 30)
        assert memory(tunnel) - before < 32 * 2**20
    finally:
        for client in lazy:
            client.close()
    await eventually(lambda: tunnel.cluster.faults.streams == 0)


async def _stands_still(tunnel: Rig) -> None:
    """Until nothing more is carried: every buffer on the way is full."""
    carried = -1
    while tunnel.values["bytes"] != carried or tunnel.values["streams"] != 8:
        carried = tunnel.values["bytes"]
        await asyncio.sleep(0.5)
        await tunnel.channel.send(Ask())
        await asyncio.sleep(0.1)


async def sent_and_got_back(host: str, sent: bytes) -> bool:
    reader, writer = await asyncio.open_connection(host, 7)
    writer.write(sent)
    back = await reader.readexactly(len(sent))
    writer.close()
    await writer.wait_closed()
    return back == sent


@pytest.mark.parametrize("fault", ["lost", "overtaken"])
async def test_a_bad_way_to_the_api_server_does_no_harm(tunnel: Rig, fault: str) -> None:
    host, web = str(await tunnel.address("echo")), await tunnel.address("web")
    async with bad_way(int(tunnel.cluster.server.rpartition(":")[2]), **{fault: 0.05}) as way:
        await tunnel.channel.send(Reach(Access(way.url)))
        sent = os.urandom(2**20)
        async with asyncio.timeout(100):
            assert all(await asyncio.gather(*(sent_and_got_back(host, sent) for _ in range(4))))
            await asyncio.gather(*(echo_once(host, b"number %d" % n) for n in range(100)))
        done = await shell(f"curl -sS http://{web}/bytes/{2**22} | sha256sum")
        assert done.out.split()[0] == expected(2**22)
        assert way.happened[fault] > way.happened["carried"] / 25
        assert tunnel.values.get("refused", []) == []


@pytest.mark.parametrize("where", ["iifname", "oifname"])
async def test_a_host_that_loses_every_twentieth_packet_gets_everything(tunnel: Rig, where: str) -> None:
    """On the device itself: what a full queue drops, for example."""
    host = str(await tunnel.address("echo"))
    hook = "input" if where == "iifname" else "output"
    rules = f"type filter hook {hook} priority 0; {where} {NAME} numgen random mod 100 < 5 counter drop;"
    assert (await shell(f"nft 'table inet way {{ chain in {{ {rules} }}; }}'")).err == ""
    try:
        sent = os.urandom(2**20)
        async with asyncio.timeout(100):
            assert all(await asyncio.gather(*(sent_and_got_back(host, sent) for _ in range(8))))
    finally:
        await shell("nft delete table inet way")
