"""Readdressing on a real device: chosen by itself where no namespace can be made, beside firewalls and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator

import pytest
from commands import shell
from fakes import eventually
from test_tunnel_worker import curl, error_of, url
from tunnel_rig import NAME, PLAIN, Rig, host_network, process_on, rig

from resolverd_tunnel import readdressed
from resolverd_tunnel.device_linux import ADDRESSES

pytestmark = pytest.mark.staged

FORCED = ("--data-path", "readdress")
WITHOUT_NAMESPACES = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    async with rig(PLAIN, *FORCED) as made:
        await made.start()
        yield made


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=10)


async def test_it_is_chosen_where_no_namespace_can_be_made(capfd: pytest.CaptureFixture[str]) -> None:
    async with rig(PLAIN, wrapped=WITHOUT_NAMESPACES) as tunnel:
        await tunnel.start()
        for family in (4, 6):
            assert (await curl(url(await tunnel.address("dual", "payments", family))))[0] == 0
        await tunnel.reported(lambda values: values["data-path"] == "readdress")
    said = capfd.readouterr().err
    assert "private network namespace: CAP_SYS_ADMIN is missing; readdressing on one device instead" in said
    assert f"must accept input on {NAME}" in said


async def test_a_namespace_is_made_where_it_can_be() -> None:
    async with rig() as tunnel:
        await tunnel.start()
        assert await error_of(await tunnel.address("web"), 80) == 0
        await tunnel.reported(lambda values: values["data-path"] == "offload")


async def test_the_route_to_the_peers_is_nobodys_business(tunnel: Rig) -> None:
    address = await tunnel.address("web")
    await tunnel.reported(lambda values: values["routes"] == [host_network(address)])
    assert await error_of(address, 80) == 0


async def heard(host: str, port: int) -> bytes:
    """What is said before the other end closes. ConnectionResetError, maybe before we see that we are connected."""
    reader, writer = await asyncio.open_connection(host, port)
    with contextlib.closing(writer):
        return await asyncio.wait_for(reader.read(), 20)


async def test_who_connects_to_the_listener_itself_is_reset(tunnel: Rig) -> None:
    reader, writer = await asyncio.open_connection(str(await tunnel.address("echo")), 7)
    shown = (await shell(f"ss -Htln src {ADDRESSES[0]}")).out
    (port,) = {line.split()[3].rpartition(":")[2] for line in shown.splitlines()}
    with pytest.raises(ConnectionResetError):
        await heard(ADDRESSES[0], int(port))
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()
    await writer.wait_closed()


async def test_a_firewall_that_denies_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    async with rig(PLAIN, *FORCED) as tunnel:
        await tunnel.start()
        address = await tunnel.address("web")
        nft(
            "table inet stage_deny { chain input { type filter hook input priority 0; policy drop;"
            " iifname lo accept; ct state established,related accept; }; }"
        )
        said = ""
        try:
            connecting = asyncio.create_task(asyncio.open_connection(str(address), 80))
            async with asyncio.timeout(20):
                while "must accept input" not in said:
                    await asyncio.sleep(0.05)
                    said += capfd.readouterr().err
            blocked = "no connection gets through: a host firewall that denies by default must accept input on"
            assert blocked in said
            await tunnel.reported(lambda values: values["state"] == f"{blocked} {NAME}")
            nft(f"insert rule inet stage_deny input iifname {NAME} accept")
            _, writer = await asyncio.wait_for(connecting, 20)
            writer.close()
            await writer.wait_closed()
            await tunnel.reported(lambda values: values["state"] == "ready")
        finally:
            nft("delete table inet stage_deny")


async def test_the_next_process_takes_over_and_resets_the_old_ones_connections(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    reader, writer = await asyncio.open_connection(str(address), 7)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    waiting, silent = await asyncio.open_connection(str(address), 7)
    os.kill(tunnel.process.pid, signal.SIGSTOP)  # so that it cannot say goodbye
    tunnel.process.kill()
    await tunnel.process.wait()
    async with process_on(tunnel.device, tunnel.cluster, *FORCED) as second:
        await second.start()
        writer.write(b"anybody?")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(waiting.read(), 20)
        assert await error_of(address, 7) == 0
        assert await error_of(address, 4242) == errno.ECONNREFUSED
    writer.close()
    silent.close()


async def test_fragments_and_what_is_no_tcp_are_dropped_and_counted(tunnel: Rig) -> None:
    address = await tunnel.address("web")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:

        def send(fragment: int, protocol: int, payload: bytes) -> None:
            head = bytes([0x45, 0, 0, 0, 0, 9, fragment, 0, 64, protocol, 0, 0]) + bytes(4) + address.packed
            raw.sendto(head + payload, (str(address), 0))

        send(0x20, 6, bytes(24))
        send(0, 6, bytes(8))
    await tunnel.reported(
        lambda values: (values["dropped"].get("fragment"), values["dropped"].get("malformed")) == (1, 1)
    )


async def test_rows_of_connections_that_ended_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readdressed, "ROUND", 0.01)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        inside = readdressed.Readdressed("lo")
        loop = inside.packet_loop(ours.fileno(), lambda _: False, lambda _: False)
        from test_tunnel_gate import syn

        inside._listeners[4, 80] = 40001
        ours.setblocking(False)
        loop.start(lambda _: None)
        loop.inward(syn())
        assert len(inside.table) == 1
        await eventually(lambda: len(inside.table) == 0)
        loop.stop()
