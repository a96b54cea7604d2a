"""Device and routes of macOS on stand-ins that keep state: what would be asked of a Mac, and what becomes of it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT
from fakes import eventually
from mac_network import Entry, MacNetwork
from test_tunnel_gate import syn

from resolverd import holds, parcels, sockets
from resolverd.errors import HostError, NoPermissionError
from resolverd.host import HostRoutes
from resolverd_tunnel import packet, programs, systems
from resolverd_tunnel.client_linux import ClientState
from resolverd_tunnel.device_linux import ADDRESSES, PEER_NETWORKS
from resolverd_tunnel.device_macos import CTLIOCGINFO, UTUN, Kernel, create_device
from resolverd_tunnel.host_routes import RouteKeeper
from resolverd_tunnel.netlink import LOCAL, UNICAST, Route
from resolverd_tunnel.programs import Finished
from resolverd_tunnel.readdressed import Readdressed
from resolverd_tunnel.routes_macos import RouteCommands

ENVIRONMENT = os.environ | {"PYTHONPATH": ":".join(str(CHECKOUT / part) for part in (".", "platform", "tunnel"))}
WEB, WEB6 = ip_address("10.96.0.7"), ip_address("fd00:10:96::7")


@dataclass
class ControlSocket:
    """Of the control's kernel: unit 0 is the next one free."""

    taken: set[int]
    refuse: int = 0
    closed: bool = False
    blocking: bool = True
    unit: int = -1

    def fileno(self) -> int:
        return 99

    def connect(self, address: Any) -> None:
        control, unit = address
        assert control == 5
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        if unit and unit - 1 in self.taken:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.unit = unit - 1 if unit else next(n for n in range(99) if n not in self.taken)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (2, 2, 16)
        return f"utun{self.unit}".encode().ljust(16, b"\0")

    def setblocking(self, blocking: bool) -> None:
        self.blocking = blocking

    def detach(self) -> int:
        return self.fileno()

    def close(self) -> None:
        self.closed = True


@dataclass
class Mac:
    network: MacNetwork = field(default_factory=MacNetwork)
    sockets: list[ControlSocket] = field(default_factory=list)
    refuse: int = 0

    def kernel(self) -> Kernel:
        return Kernel(self._socket, self._ioctl, self.network.number, self.network)

    def _socket(self, *kind: int) -> ControlSocket:
        assert kind == (32, socket.SOCK_DGRAM, 2)
        self.sockets.append(ControlSocket({0, 1, 2}, self.refuse))
        return self.sockets[-1]

    def _ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        assert (descriptor, request, len(argument)) == (99, CTLIOCGINFO, 100)
        assert argument[4:].rstrip(b"\0") == b"com.apple.net.utun_control"
        return struct.pack("=I", 5) + argument[4:]


@pytest.mark.parametrize(("asked", "given"), [("resolverd0", "utun3"), ("utun", "utun3"), ("utun7", "utun7")])
def test_a_device_has_its_addresses_and_the_peers_at_the_other_end(asked: str, given: str) -> None:
    mac = Mac()
    device = create_device(asked, kernel=mac.kernel())
    assert (device.name, device.fd, device.addresses) == (given, 99, ADDRESSES)
    assert device.ifindex == mac.network.number(given)
    assert not mac.sockets[0].blocking
    assert mac.network.commands == [
        f"/sbin/ifconfig {given} inet 198.18.53.1 198.18.53.2 netmask 255.255.255.255",
        f"/sbin/ifconfig {given} inet6 fd53:7265:736f:6c76::1 prefixlen 128 alias",
        f"/sbin/ifconfig {given} mtu 65520 up",
    ]


def test_what_keeps_a_device_from_being_made() -> None:
    mac = Mac()
    with pytest.raises(HostError, match=r"device utun1: the name is in use by another VPN \(set tunnel.device"):
        create_device("utun1", kernel=mac.kernel())
    mac.refuse = errno.EPERM
    with pytest.raises(NoPermissionError, match=r"device utun: only root may make a utun device \(run with sudo"):
        create_device("resolverd0", kernel=mac.kernel())
    mac.refuse = 0
    mac.network.broken = lambda command: Finished(1, "", "ifconfig: SIOCSIFMTU: bad\n") if "mtu" in command else None
    with pytest.raises(HostError, match="device utun3: ifconfig: SIOCSIFMTU: bad"):
        create_device("resolverd0", kernel=mac.kernel())
    assert all(control.closed for control in mac.sockets)


def test_without_ipv6_there_is_a_device() -> None:
    mac = Mac()
    mac.network.broken = lambda command: Finished(1, "", "no IPv6\n") if "inet6" in command else None
    assert create_device("resolverd0", kernel=mac.kernel()).name == "utun3"


def table(network: MacNetwork) -> RouteCommands:
    return RouteCommands(network, network.name, network.number)


def via(routes: RouteCommands, ifindex: int) -> list[Route]:
    return [route for route in routes.main_routes() if route.ifindex == ifindex]


def test_a_network_that_a_link_is_on_is_told_from_what_is_behind_a_gateway() -> None:
    on, behind = ip_network("192.168.1.0/24"), ip_network("10.0.0.0/8")
    network = MacNetwork(entries=[Entry(on, "en0", "UCS", "link#11"), Entry(behind, "en0", "UGSc", "192.168.1.1")])
    network.entries.append(Entry(ip_network("10.9.0.0/16"), "en5", "UC", "link#12"))
    found = {str(route.network): (route.direct, route.gateway) for route in table(network).main_routes()}
    assert found == {str(on): (True, False), str(behind): (False, True), "10.9.0.0/16": (True, False)}


@pytest.mark.parametrize("old", [False, True])
def test_routes_come_and_go_and_errors_name_the_route(old: bool) -> None:
    network = MacNetwork(old=old)
    routes, ours = table(network), [ip_network(text) for text in ("10.96.0.7", "fd00:10:96::7", "10.244.0.0/16")]
    ifindex = network.number("utun7")
    assert routes.add_routes(ours, ifindex) == {}
    assert [route.network for route in via(routes, ifindex) if route.ours] == [ours[0], ours[2], ours[1]]
    assert isinstance(routes.add_routes(ours[:1], ifindex)[ours[0]], FileExistsError)
    assert routes.remove_routes(ours, ifindex) == {}
    assert isinstance(routes.remove_routes(ours[:1], ifindex)[ours[0]], ProcessLookupError)
    assert via(routes, ifindex) == []
    assert "/sbin/route -n add -inet6 -host fd00:10:96::7 -interface utun7" in network.commands
    assert "/sbin/route -n delete -inet -net 10.244.0.0/16 -interface utun7" in network.commands


def test_not_root_and_unheard_of_failures() -> None:
    network = MacNetwork(root=False)
    one = ip_network("10.96.0.7")
    assert isinstance(table(network).add_routes([one], 1)[one], PermissionError)
    network = MacNetwork(broken=lambda _: Finished(1, "", "route: something new\n"))
    assert table(network).add_routes([one], 1)[one].errno == errno.EIO


def test_netstat_abbreviates() -> None:
    texts = ("10.0.0.0/8", "172.16.0.0/12", "192.168.1.0/24", "10.1.2.3/32", "fd00:10:96::/112", "0.0.0.0/0")
    network = MacNetwork(entries=[Entry(ip_network(text), "utun7", "USc", "utun7") for text in texts])
    found = [str(route.network) for route in via(table(network), network.number("utun7"))]
    assert sorted(found) == sorted(texts)


def test_the_deciding_route_is_found() -> None:
    network = MacNetwork()
    routes = table(network)
    routes.add_routes([ip_network(WEB)], network.number("utun7"))
    subnet, own, far = (ip_address(text) for text in ("192.168.1.9", "192.168.1.51", "203.0.113.1"))
    found = routes.match([WEB, subnet, own, far, WEB6])
    assert (found[WEB].network, found[WEB].ifindex) == (ip_network(WEB), network.number("utun7"))
    assert (found[subnet].network, found[subnet].gateway) == (ip_network("192.168.1.0/24"), False)
    assert found[own].kind == LOCAL
    assert (found[far].network, found[far].gateway, found[far].kind) == (ip_network("0.0.0.0/0"), True, UNICAST)
    assert WEB6 not in found


def test_the_keeper_of_routes_works_on_it() -> None:
    network = MacNetwork()
    create_device("utun7", kernel=Mac(network).kernel())
    ifindex = network.number("utun7")
    keeper = RouteKeeper(table(network), ifindex, lambda: 0.0)
    keeper.permit(HostRoutes(tuple(map(ip_network, ("10.96.0.0/16", "fd00:10:96::/112", "192.168.0.0/16")))))
    keeper.hold([WEB, WEB6, ip_address("192.168.1.9"), ip_address("192.168.1.51")])
    assert list(keeper.present) == [WEB, WEB6]
    assert set(keeper.skipped.values()) == {"own-subnet", "own-address"}
    network.entries = [entry for entry in network.entries if entry.network != ip_network(WEB)]
    keeper.tidy(lambda _: True)
    assert ip_network(WEB) in {entry.network for entry in network.entries}
    assert list(RouteKeeper(table(network), ifindex, lambda: 0.0).present) == [WEB, WEB6]


async def test_packets_have_the_family_in_front() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, ours:
        ours.setblocking(False)
        kernel.setblocking(False)
        inside = Readdressed("lo", UTUN)
        admitted: list[bytes] = []
        loop = inside.packet_loop(ours.fileno(), lambda _: True, lambda _: True)
        loop.start(admitted.append)
        kernel.send(struct.pack("!I", 2) + syn())
        await eventually(lambda: admitted == [syn()])
        kernel.send(b"\0\0")
        loop.back(packet.reset(syn()))
        assert kernel.recv(100) == struct.pack("!I", 2) + packet.reset(syn())
        six = struct.pack("!IHBB", 6 << 28, 8, packet.ICMP6, 64) + WEB6.packed + WEB6.packed + b"\x80\0\0\0\0\1\0\1"
        kernel.send(struct.pack("!I", 30) + six)
        answers: list[bytes] = []

        def answered() -> bool:
            try:
                answers.append(kernel.recv(100))
            except BlockingIOError:
                return False
            return True

        await eventually(answered)
        assert (answers[0][:4], answers[0][44]) == (struct.pack("!I", 30), 129)
        loop.stop()


def test_the_peers_networks_are_routed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MacNetwork()
    monkeypatch.setattr(socket, "if_indextoname", network.name)
    for _ in range(2):
        assert Readdressed.create(network.number("utun7"), table(network)).name == "readdress"
    assert {entry.network for entry in network.entries} >= set(PEER_NETWORKS)
    with pytest.raises(NoPermissionError, match="readdressing on utun7"):
        Readdressed.create(network.number("utun7"), table(MacNetwork(root=False)))


def test_a_mac_gets_what_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "is_macos", lambda: True)
    assert isinstance(systems.open_route_table(), RouteCommands)
    clients = systems.open_clients()
    assert clients.state(packet.opening(syn())) is ClientState.UNKNOWN
    network = MacNetwork()
    monkeypatch.setattr(socket, "if_indextoname", network.name)
    inside = systems.choose_inside("auto", network.number("utun7"), table(network))
    assert isinstance(inside, Readdressed)
    assert inside.framing is UTUN
    with pytest.raises(HostError, match="device"):  # this is no Mac
        systems.create_device("resolverd0")


def test_programs_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = programs.run_program(["/bin/sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3"])
    assert (done, done.said) == (Finished(3, "out\n", "one\ntwo\n"), "two")
    monkeypatch.setattr(programs, "DEADLINE", 0.05)
    with pytest.raises(TimeoutError, match=r"/bin/sleep did not end within 0.05 s"):
        programs.run_program(["/bin/sleep", "30"])


def test_nothing_else_asks_which_system_this_is() -> None:
    """Policy never names an operating system; what doctor looks at, and of the tunnel one module, says which it is."""
    asking = [
        str(path.relative_to(CHECKOUT))
        for folder in ("resolverd", "tunnel")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        if "sys.platform" in path.read_text()
    ]
    assert asking == ["resolverd/doctor/look_host.py", "tunnel/resolverd_tunnel/systems.py"]


LINUX_ONLY = ("AF_NETLINK", "NETLINK_ROUTE", "SO_BINDTODEVICE", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK")
WITHOUT_LINUX = f"""
import importlib, pkgutil, socket, sys
for name in {(*LINUX_ONLY, "TCP_CONGESTION")!r}:
    delattr(socket, name)
sys.modules["dbus_fast"] = None
import resolverd, resolverd_platform, resolverd_tunnel
for package in (resolverd, resolverd_platform, resolverd_tunnel):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("resolverd.demo") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from ipaddress import ip_address
from resolverd.host import Server
from resolverd.sockets import listen
listen(Server(ip_address("127.0.0.1"), 0)).close()
"""


def test_modules_can_be_imported_and_sockets_made_without_what_only_linux_has() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_LINUX], check=True, timeout=60, env=ENVIRONMENT)


@pytest.mark.parametrize("sequenced", [True, False])
def test_messages_between_workers_stay_whole(monkeypatch: pytest.MonkeyPatch, sequenced: bool) -> None:
    made = socket.socketpair

    def without_sequenced_packets(family: int, kind: int) -> tuple[socket.socket, socket.socket]:
        if kind == socket.SOCK_SEQPACKET and not sequenced:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
        pair = made(family, kind)
        for end in pair if kind == socket.SOCK_DGRAM else ():  # net.local.dgram.maxdgram
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        return pair

    monkeypatch.setattr(socket, "socketpair", without_sequenced_packets)
    asking, answering = sockets.message_pair()
    with asking, answering:
        for number in (1, 2):
            asking.send(holds.encode_request(number, [WEB, WEB6]))
        assert [holds.decode_request(answering.recv(holds.MAX_REQUEST)) for _ in range(2)] == [
            (1, [WEB, WEB6]),
            (2, [WEB, WEB6]),
        ]
        many = [WEB] * holds.MAX_ADDRESSES
        for message in (holds.encode_request(3, many), b"x" * parcels.LARGEST):
            asking.send(message)
            assert answering.recv(parcels.LARGEST) == message
