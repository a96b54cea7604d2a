"""The kernel's way for segments: what takes it and what comes to us, what is left of it, and life without it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest
from commands import shell
from fakes import eventually
from test_tunnel_bpf import DATA4, DATA6
from test_tunnel_packet import UDP, segment, v4, v6
from test_tunnel_worker import curl, url
from tunnel_rig import NAME, PLAIN, Rig, process_on, rig

from resolverd.errors import NoPermissionError
from resolverd_tunnel import bpf, data_path, packet
from resolverd_tunnel.device_linux import MTU, create_device
from resolverd_tunnel.namespace import OFFLOAD, PrivateNamespace
from resolverd_tunnel.netlink import Netlink
from resolverd_tunnel.offload import NAMES
from resolverd_tunnel.packet import Kind

pytestmark = pytest.mark.staged

WIRE = NAMES.partition("%")[0]


def links() -> list[str]:
    return [name for _, name in socket.if_nameindex() if name.startswith(WIRE)]


async def is_classified() -> bool:
    return "clsact" in (await shell(f"tc qdisc show dev {NAME}")).out


def mtu() -> int:
    return int(Path(f"/sys/class/net/{NAME}/mtu").read_text())


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    async with rig(PLAIN, "--data-path", "offload") as made:
        await made.start()
        yield made


async def test_it_is_what_is_chosen_and_nothing_is_left_of_it() -> None:
    async with rig() as tunnel:
        await tunnel.start()
        assert len(links()) == 1
        for family in (4, 6):
            assert (await curl(url(await tunnel.address("dual", "payments", family))))[0] == 0
        await tunnel.reported(lambda values: values["data-path"] == "offload")
    assert links() == []


def received(device: int) -> Iterator[bytes]:
    """What there is to read, but for what hosts tell of their groups (resolved joins some)."""
    while True:
        try:
            data = os.read(device, 70_000)
        except BlockingIOError:
            return
        if not packet.destination(data).is_multicast:
            yield data


async def test_only_what_has_to_be_judged_comes_to_us() -> None:
    """Real packets from this host, read from the device's descriptor: nobody else does."""
    device = create_device(NAME)
    namespace = PrivateNamespace.create()
    netlink = Netlink()
    try:
        for network in ("10.96.0.0/16", "fd00:10:96::/112"):
            netlink.add_route(ip_network(network), device.ifindex)
        namespace.offload(device.ifindex)
        raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw4, raw6:
            for data in (DATA4, v4(6, segment(0x02)), v4(17, UDP), v4(6, segment(0x10), options=bytes(4))):
                raw4.sendto(data, ("10.96.0.7", 0))
            for data in (DATA6, v6(6, segment(0x02)), v6(17, UDP)):
                raw6.sendto(data, ("fd00:10:96::7", 0))
        kinds = [(data[0] >> 4, packet.classify(data, len(data))) for data in received(device.fd)]
        assert not list(received(namespace.tun))  # the namespace's resets of unknown connections go by, too
    finally:
        netlink.close()
        namespace.close()
        device.close()
    assert kinds == [(4, Kind.SYN), (4, Kind.UDP), (4, Kind.SEGMENT), (6, Kind.SYN), (6, Kind.UDP)]


async def test_a_killed_process_leaves_nothing_and_the_next_one_goes_on(tunnel: Rig) -> None:
    address = await tunnel.address("web")
    assert (await curl(url(address)))[0] == 0
    tunnel.process.kill()
    await tunnel.process.wait()
    await eventually(lambda: links() == [])
    async with process_on(tunnel.device, tunnel.cluster) as second:
        await second.start()
        assert (await curl(url(address)))[0] == 0
        await second.reported(lambda values: values["data-path"] == "offload")


@pytest.mark.parametrize("path", ["namespace", "readdress"])
async def test_the_next_process_may_have_to_do_without(tunnel: Rig, path: str) -> None:
    """What the killed one left on the device must not keep its segments."""
    address = await tunnel.address("web")
    tunnel.process.kill()
    await tunnel.process.wait()
    assert await is_classified()
    async with process_on(tunnel.device, tunnel.cluster, "--data-path", path) as second:
        await second.start()
        assert (await curl(url(address)))[0] == 0
        await second.reported(lambda values: values["data-path"] == path)
        assert (await is_classified(), mtu()) == (False, MTU)


async def test_a_frozen_process_s_clients_are_not_told_anything(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    reader, writer = await asyncio.open_connection(str(address), 7)
    tunnel.process.send_signal(signal.SIGSTOP)
    try:
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
    finally:
        tunnel.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(10):
        assert await reader.readexactly(1) == b"x"
    writer.close()


@pytest.mark.parametrize("what", ["delete {}", "set {} down", "set {} mtu 1500"])
async def test_a_wire_that_somebody_takes_away_is_done_without(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with rig() as tunnel:
        await tunnel.start()
        address = await tunnel.address("echo")
        reader, writer = await asyncio.open_connection(str(address), 7)
        (wire,) = links()
        assert (await shell(f"ip link {what.format(wire)}")).code == 0
        await tunnel.reported(lambda values: values["data-path"] == "namespace")
        writer.write(b"still there?")
        async with asyncio.timeout(10):
            assert await reader.readexactly(12) == b"still there?"
        writer.close()
        assert (await curl(url(await tunnel.address("web"))))[0] == 0
        assert (await is_classified(), mtu(), links()) == (False, MTU, [])
    assert capfd.readouterr().err.count("segments are copied from now on") == 1


async def test_flushed_classifiers_are_done_without(tunnel: Rig) -> None:
    assert (await shell(f"tc qdisc delete dev {NAME} clsact")).code == 0
    assert (await curl(url(await tunnel.address("web"))))[0] == 0


@pytest.mark.parametrize("refused", [1, 2, 3, 4])
async def test_where_the_kernel_takes_no_program_segments_are_copied(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the four it refuses."""
    real = bpf.load
    calls: list[list[bpf.Instruction]] = []

    def load(code: list[bpf.Instruction]) -> int:
        calls.append(code)
        if len(calls) == refused:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return real(code)

    monkeypatch.setattr(bpf, "load", load)
    device = create_device(NAME)
    with closing(device), closing(Netlink()) as table:
        with pytest.raises(NoPermissionError, match="eBPF"):
            data_path.choose(OFFLOAD, device.ifindex, table)
        calls.clear()
        with closing(data_path.choose(data_path.AUTO, device.ifindex, table)) as inside:
            assert (inside.name, links(), mtu()) == ("namespace", [], MTU)
            assert not await is_classified()
