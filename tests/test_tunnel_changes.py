"""What changes while the tunnel runs: the host sleeps, the API server moves, credentials rotate."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from dns_side import DnsSide
from fakes import eventually
from test_cluster_login import credential, exec_user, write
from test_tunnel_outages import Client
from tunnel_rig import PLAIN, QUICK_PULSE, _everything, rig

from resolverd.cluster.access import Access
from resolverd.cluster.follow import Follower
from resolverd.cluster.objects import parse_service
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, User
from resolverd.settings import ClusterSettings
from resolverd.sleep import notice_sleep, seconds_slept
from resolverd_tunnel import pulse as pulsing
from resolverd_tunnel.device_linux import create_device
from resolverd_tunnel.finding import StreamFinder
from resolverd_tunnel.known import Known
from resolverd_tunnel.netlink import Netlink
from resolverd_tunnel.network_changes import SETTLE, NetworkChanges
from resolverd_tunnel.packet import Opening
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.pulse import Pulse
from resolverd_tunnel.transport import NoWayError, TransportError

CLIENT = ip_address("198.18.53.1")
ECHO = Target("shop", "echo-1", 7007)


async def test_a_host_that_wakes_up_asks_for_the_api_server_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulsing, "IDLE_INTERVAL", 1000.0)
    slept, asked, woken = [0.0], 0, list[float]()

    async def ask() -> str:
        nonlocal asked
        asked += 1
        return ""

    def wake(seconds: float) -> None:
        woken.append(seconds)
        pulse.hurry()

    pulse = Pulse(ask, lambda: ())
    noticing = asyncio.create_task(notice_sleep(lambda: slept[0], wake, 0.01))
    await asyncio.sleep(0.05)
    slept[0] += 0.005  # the two clocks are not read at the same moment
    await asyncio.sleep(0.05)
    assert (asked, woken) == (0, [])
    slept[0] += 3600
    await eventually(lambda: asked == 1)
    assert woken == [pytest.approx(3600)]
    noticing.cancel()
    await asyncio.gather(noticing, return_exceptions=True)
    await pulse.stop()


def test_the_time_slept_is_none_or_some() -> None:
    first = seconds_slept()
    assert first > -1
    assert seconds_slept() - first == pytest.approx(0, abs=1)


@asynccontextmanager
async def front(address: str, port: int, cluster: DemoCluster) -> AsyncIterator[int]:
    """The cluster's API server at another address; all its connections break with it."""
    joined: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[Any]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own
        tasks.add(own)
        there, back = await asyncio.open_connection("127.0.0.1", int(cluster.server.rpartition(":")[2]))
        joined.update((writer, back))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(join, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in joined:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


HOSTS = 'mount --bind "$0" /etc/hosts; exec "$@"'


@pytest.mark.staged
async def test_an_api_server_that_has_moved_is_found_again(tmp_path: Path) -> None:
    """Its name has another address; the old one answers nobody."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 api.moving\n")
    wrapped = ("unshare", "--mount", "sh", "-c", HOSTS, str(hosts), *QUICK_PULSE)
    async with rig(PLAIN, wrapped=wrapped) as tunnel:
        async with front("127.0.0.2", 0, tunnel.cluster) as port:
            await tunnel.start(Access(f"http://api.moving:{port}"))
            address = await tunnel.address("echo")
            client = await Client.connected(address)
            await tunnel.reported(lambda values: values["state"] == "ready")
        await client.ends()
        await client.close()
        async with front("127.0.0.3", port, tunnel.cluster):
            await tunnel.reported(lambda values: values["state"] != "ready")
            hosts.write_text("127.0.0.3 api.moving\n")
            await tunnel.reported(lambda values: values["state"] == "ready")
            await (await Client.connected(address)).close()


@dataclass(eq=False)
class Scene:
    """A follower that renews credentials, and a finder that uses them, joined as the daemon does."""

    cluster: DemoCluster
    kubeconfig: Path
    refused: int = 0
    open: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        ours, self.dns = DnsSide.made()
        self.known = Known(ours)
        self.dns.learn(_everything(self.cluster))
        self.finder = StreamFinder(self.known, PortForward, self._refused)
        self.follower = Follower(
            ClusterSettings(kubeconfig=str(self.kubeconfig)),
            None,
            self.kubeconfig.parent,
            lambda *_: None,
            lambda context: self.finder.reach(context.access),
        )

    def _refused(self) -> None:
        self.refused += 1
        self.follower._login._renewed -= 1000  # a while ago
        self.follower.renew()

    async def echo(self, stream: Any, word: bytes) -> None:
        await stream.send(word)
        assert await stream.receive() == word

    async def connect(self) -> Any:
        """A stream to the service ``echo``."""
        service = parse_service(self.cluster.get("Service", "echo", "shop"))
        stream = await self.finder.open(Opening(CLIENT, 40000, ip_address(service.cluster_ips[0]), 7))
        self.open.append(stream)
        return stream


@asynccontextmanager
async def following(cluster: DemoCluster, kubeconfig: Path) -> AsyncIterator[Scene]:
    scene = Scene(cluster, kubeconfig)
    task = asyncio.create_task(scene.follower.run())
    try:
        await eventually(lambda: scene.finder.state == "ready", 20)
        yield scene
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for stream in scene.open:
            await stream.close()
        await scene.finder.close()
        scene.known.close()
        scene.dns.close()


def token_file(folder: Path) -> dict[str, Any]:
    return {"tokenFile": str(folder / "token")}


def plugin(folder: Path) -> dict[str, Any]:
    return exec_user(f"printf '{credential('%s')}' \"$(cat {folder}/token)\"")


@pytest.mark.parametrize("user", [token_file, plugin])
async def test_new_streams_use_the_token_of_the_moment_and_old_ones_stay(
    tmp_path: Path, user: Callable[[Path], dict[str, Any]]
) -> None:
    tokens: dict[str, User] = {"first": ADMIN}
    (tmp_path / "token").write_text("first")
    async with (
        DemoCluster(traits=Traits(tokens=tokens)) as cluster,
        following(cluster, write(tmp_path / "k", cluster, user(tmp_path))) as scene,
    ):
        old = await scene.connect()
        await scene.echo(old, b"first")
        del tokens["first"]
        tokens["second"] = ADMIN
        (tmp_path / "token").write_text("second")
        with pytest.raises(TransportError, match="401"):
            await scene.connect()
        await eventually(lambda: scene.finder.state == "ready", 20)
        assert scene.refused == 1
        await scene.echo(await scene.connect(), b"second")
        await scene.echo(old, b"still here")


async def test_where_the_api_server_is_is_asked_anew_when_it_cannot_be_reached_and_in_haste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = ["127.0.0.2"]

    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where[0], port))]

    async with DemoCluster() as cluster:
        port = int(cluster.server.rpartition(":")[2])
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        transport = PortForward(Access(f"http://api.moving:{port}"), lambda: None)
        vars(vars(transport._session.connector)["_cached_hosts"])["_ttl"] = None  # what is cached stays so for ever
        with pytest.raises(NoWayError):
            await transport.open(ECHO)
        where[0] = "127.0.0.1"
        await eventually(lambda: transport.trouble == "")
        await (await transport.open(ECHO)).close()
        await transport.close()
        hurried = PortForward(Access(f"http://api.moving:{port}"), lambda: None)
        vars(vars(hurried._session.connector)["_cached_hosts"])["_ttl"] = None
        await (await hurried.open(ECHO)).close()
        where[0] = "127.0.0.2"
        hurried.hurry()
        with pytest.raises(NoWayError):
            await hurried.open(ECHO)
        await hurried.close()


@pytest.mark.staged
async def test_changes_of_other_links_are_news_and_those_of_our_own_are_not() -> None:
    own, other = create_device("rtest0"), create_device("rtest1", addresses=("198.51.100.9",))
    told: list[bool] = []
    changes, netlink = NetworkChanges(own.ifindex, lambda: told.append(True)), Netlink()
    try:
        await asyncio.sleep(3 * SETTLE)  # what comes with new links is over
        told.clear()
        assert not netlink.add_routes([ip_network("10.96.0.7")], own.ifindex)
        assert not netlink.remove_routes([ip_network("10.96.0.7")], own.ifindex)
        await asyncio.sleep(3 * SETTLE)
        assert told == []
        assert not netlink.add_routes([ip_network("10.96.0.7")], other.ifindex)
        await eventually(lambda: told == [True])
    finally:
        changes.close()
        netlink.close()
        other.close()
        own.close()
