"""The TUN device, rtnetlink and the private namespace against the real kernel; what is missing is said in a line."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from conftest import CHECKOUT
from fakes import eventually

from resolverd.errors import HostError, NoPermissionError
from resolverd_tunnel import device_linux
from resolverd_tunnel.client_linux import ClientSockets, ClientState
from resolverd_tunnel.device_linux import ADDRESSES, MTU, Device, create_device
from resolverd_tunnel.netlink import LOCAL, UNICAST, Netlink
from resolverd_tunnel.packet import Opening

pytestmark = pytest.mark.staged

NAME = "rtest1"
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tunnel'}"}


@pytest.fixture
def device() -> Iterator[Device]:
    made = create_device(NAME)
    yield made
    made.close()


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    made = Netlink()
    yield made
    made.close()


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_the_device_is_as_systemd_resolved_wants_it(device: Device) -> None:
    shown = subprocess.check_output(["ip", "-o", "address", "show", "dev", NAME], text=True)
    assert shown.count("scope global") == len(ADDRESSES) == shown.count("inet")
    link = subprocess.check_output(["ip", "-o", "link", "show", "dev", NAME], text=True)
    assert "LOWER_UP" in link
    assert f"mtu {MTU}" in link
    assert device.addresses == ADDRESSES


def test_closing_takes_device_and_routes_away(netlink: Netlink) -> None:
    device = create_device(NAME)
    assert not netlink.add_routes([ip_network("10.96.0.7")], device.ifindex)
    device.close()
    assert NAME not in links()
    assert netlink.match([ip_address("10.96.0.7")]) == {}


def test_many_routes_come_and_go_and_errors_name_the_route(device: Device, netlink: Netlink) -> None:
    networks = [ip_network((0x0A600000 + n, 32)) for n in range(500)] + [ip_network((0xFD << 120 | 1, 128))]
    assert netlink.add_routes(networks, device.ifindex) == {}
    assert {route.network for route in netlink.routes(device.ifindex) if route.ours} == set(networks)
    assert isinstance(netlink.add_routes(networks[:1], device.ifindex)[networks[0]], FileExistsError)
    assert netlink.remove_routes(networks[1:], device.ifindex) == {}
    assert isinstance(netlink.remove_routes(networks[1:2], device.ifindex)[networks[1]], ProcessLookupError)
    assert [route.network for route in netlink.routes(device.ifindex) if route.ours] == networks[:1]


def test_the_deciding_route_is_found(device: Device, netlink: Netlink) -> None:
    routed, own, unknown = ip_address("10.96.0.7"), ip_address(ADDRESSES[0]), ip_address("203.0.113.1")
    netlink.add_routes([ip_network(routed)], device.ifindex)
    found = netlink.match([routed, own, unknown, ip_address("::1")])
    assert (found[routed].network, found[routed].kind, found[routed].gateway) == (ip_network(routed), UNICAST, False)
    assert found[own].kind == found[ip_address("::1")].kind == LOCAL
    assert unknown not in found


def test_a_name_that_is_taken(device: Device) -> None:
    with pytest.raises(HostError, match=rf"device {NAME}: the name is in use .* \(stop the other resolverd"):
        create_device(NAME)


@pytest.mark.parametrize("name", ["", "sixteen-letters!", "a b", "a/b", "tun%d", "lo"])
def test_names_that_cannot_be(name: str) -> None:
    before = links()
    with pytest.raises(HostError):
        create_device(name)
    assert links() == before


def test_addresses_that_cannot_be_leave_no_device() -> None:
    with pytest.raises(HostError):
        create_device(NAME, addresses=("198.18.53.1", "198.18.53.1"))
    assert NAME not in links()


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device_linux, "TUN", str(tmp_path / "tun"))
    with pytest.raises(HostError, match=r"there is no .* \(modprobe tun"):
        create_device(NAME)


def wrapped(script: str) -> str:
    """``script``, which prints the error that it ends with."""
    lines = ["try:", *(f"    {line}" for line in script.splitlines())]
    return "\n".join([*lines, "except Exception as error:", "    print(type(error).__name__, error)"])


def said_by(script: str) -> str:
    """The type and text of the error in a process that runs ``script``."""
    command = [sys.executable, "-c", wrapped(script)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=30).stdout


def test_not_root() -> None:
    script = "import os\nfrom resolverd_tunnel.device_linux import create_device\nos.setuid(65534)\n"
    script += f"create_device({NAME!r})"
    assert said_by(script).startswith(f"{NoPermissionError.__name__} device {NAME}: only root may make a TUN device")


def test_no_right_to_make_namespaces() -> None:
    inner = "from resolverd_tunnel.namespace import PrivateNamespace\nPrivateNamespace.create()"
    # A right that leaves the bounding set (PR_CAPBSET_DROP, CAP_SYS_ADMIN) is gone with the next program.
    script = "import ctypes, os, sys\nctypes.CDLL(None).prctl(24, 21, 0, 0, 0)\n"
    script += f"os.execv(sys.executable, {[sys.executable, '-c', wrapped(inner)]!r})"
    assert said_by(script).startswith("HostError private network namespace: CAP_SYS_ADMIN is missing (run as root")


async def test_nothing_is_left_when_the_daemon_is_killed() -> None:
    program = str(Path(__file__).with_name("tunnel_parent.py"))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, program, NAME, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    assert parent.stdout
    worker = int(await parent.stdout.readline())
    netlink = Netlink()
    ifindex = socket.if_nametoindex(NAME)
    netlink.add_routes([ip_network("10.96.0.7")], ifindex)
    parent.kill()
    await parent.wait()
    await eventually(lambda: NAME not in links())
    await eventually(lambda: not _command_of(worker))
    assert netlink.routes(ifindex) == []
    netlink.close()


def _command_of(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_became_of_a_client(host: str) -> None:
    sockets = ClientSockets()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        accepted, _ = listener.accept()
        with accepted:
            (address, port), (_, client_port) = listener.getsockname()[:2], client.getsockname()[:2]
            ends = Opening(ip_address(address), client_port, ip_address(address), port)
            assert sockets.state(ends) is ClientState.HELD
            assert ends in sockets.connections()
            client.shutdown(socket.SHUT_WR)
            assert ends in sockets.connections()
            assert sockets.state(ends) is ClientState.HELD
            client.close()
            await eventually(lambda: sockets.state(ends) is ClientState.LEFT)
            unknown = Opening(ip_address(address), 1, ip_address(address), 1)
            assert unknown not in sockets.connections()
            assert sockets.state(unknown) is ClientState.UNKNOWN
    sockets.close()


async def test_an_ipv4_connection_of_an_ipv6_socket_is_one_of_ipv4() -> None:
    sockets = ClientSockets()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET6) as client:
        port = listener.getsockname()[1]
        client.connect(("::ffff:127.0.0.1", port))
        here = ip_address("127.0.0.1")
        assert Opening(here, client.getsockname()[1], here, port) in sockets.connections()
    sockets.close()
