"""The tunnel process on a real TUN device, in the stage's network, before the embedded cluster."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from conftest import CHECKOUT
from dns_side import DnsSide
from fakes import eventually

from resolverd import holds
from resolverd.channel import Channel
from resolverd.cluster.access import Access
from resolverd.cluster.objects import parse_endpoint_slice, parse_service
from resolverd.cluster.snapshot import Change, Kind, key_of
from resolverd.demo.bootstrap import POD_NETWORKS, SERVICE_NETWORKS
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.feed import Ask, Reach, Ready, Report, Routable
from resolverd.host import HostRoutes
from resolverd.names import Address, address_of
from resolverd_tunnel.device_linux import Device, create_device

NAME = "rtest0"
PLAIN = Traits()
QUICK_PULSE = (sys.executable, str(CHECKOUT / "tests" / "quick_pulse.py"))
"""Wraps the tunnel process, so that what it finds within ten seconds is found within two or three."""
ALLOWED = HostRoutes((*SERVICE_NETWORKS, *POD_NETWORKS))
_numbers = itertools.count(1)


@dataclass(eq=False)
class Rig:
    """A cluster, a device, and the tunnel process between them."""

    cluster: DemoCluster
    device: Device
    process: asyncio.subprocess.Process
    channel: Channel
    asking: socket.socket
    """The DNS process's end of the holds socketpair."""
    dns: DnsSide
    values: dict[str, Any] = field(default_factory=dict)
    """The newest report."""
    messages: list[Any] = field(default_factory=list)
    """Everything else it said."""

    async def start(self, access: Access | None = None) -> None:
        """Tell it what the daemon would."""
        await self.channel.send(Reach(access or Access(self.cluster.server)))
        await self.channel.send(Routable(ALLOWED))
        await self.feed()

    async def feed(self, *changes: Change) -> None:
        """``changes``, or the whole cluster."""
        self.dns.learn(changes or _everything(self.cluster))

    async def hold(self, *addresses: Address) -> None:
        """Ask for routes as the DNS process does, and wait for the reply."""
        number = next(_numbers)
        loop = asyncio.get_running_loop()
        self.asking.send(holds.encode_request(number, addresses))
        async with asyncio.timeout(10):
            while holds.decode_reply(await loop.sock_recv(self.asking, 64)) != number:
                pass

    async def address(self, name: str, namespace: str = "shop", family: int = 4) -> Address:
        """The ClusterIP of a service, routed."""
        service = parse_service(self.cluster.get("Service", name, namespace))
        address = next(a for a in map(address_of, service.cluster_ips) if a is not None and a.version == family)
        await self.hold(address)
        return address

    async def reported(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until it reports what makes ``condition`` true; it is asked, so as not to wait for its next turn."""
        async with asyncio.timeout(20):
            while not (self.values and condition(self.values)):
                await self.channel.send(Ask())
                await asyncio.sleep(0.02)

    def put_in_pod(self, pod: str, port: int, server: tuple[str, int]) -> None:
        """Have ``server`` answer at ``port`` of ``pod``, whatever the cluster had there."""
        servers = self.cluster._servers
        before = servers.address

        async def address(raw: dict[str, Any], asked: int) -> tuple[str, int]:
            return server if (raw["metadata"]["name"], asked) == (pod, port) else await before(raw, asked)

        vars(servers)["address"] = address

    def descriptors(self) -> int:
        """How many it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    async def listen(self) -> None:
        """Keep what it says, until it ends."""
        with contextlib.suppress(EOFError):
            while True:
                message = await self.channel.receive()
                if isinstance(message, Report):
                    self.values = dict(message.values)
                else:
                    self.messages.append(message)


@contextlib.asynccontextmanager
async def rig(traits: Traits = PLAIN, *options: str, wrapped: Sequence[str] = ()) -> AsyncIterator[Rig]:
    """Everything running, and told nothing yet. The process must end by itself with 0, unless the test ended it.

    ``options`` are the process's, ``wrapped`` is the command that runs it.
    """
    device = create_device(NAME)
    try:
        async with (
            DemoCluster(traits=traits) as cluster,
            process_on(device, cluster, *options, wrapped=wrapped) as made,
        ):
            yield made
    finally:
        device.close()


@contextlib.asynccontextmanager
async def process_on(
    device: Device, cluster: DemoCluster, *options: str, wrapped: Sequence[str] = ()
) -> AsyncIterator[Rig]:
    """A tunnel process on ``device``."""
    ours, theirs = socket.socketpair()
    asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.setblocking(False)
    told, dns = DnsSide.made()
    with theirs, answering, told:
        numbers = {"--channel": theirs.fileno(), "--tun": device.fd, "--holds": answering.fileno()}
        numbers["--behind"] = told.fileno()
        process = await asyncio.create_subprocess_exec(
            *(*wrapped, sys.executable),
            "-m",
            "resolverd_tunnel.worker",
            *options,
            *(str(part) for option in numbers.items() for part in option),
            *("--ifindex", str(device.ifindex)),
            pass_fds=tuple(numbers.values()),
            env=os.environ | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tunnel'}"},
        )
    channel = await Channel.over(ours)
    made = Rig(cluster, device, process, channel, asking, dns)
    listening = asyncio.create_task(made.listen())
    try:
        await eventually(lambda: Ready("tunnel") in made.messages)
        yield made
    finally:
        await channel.close()
        code = await asyncio.wait_for(process.wait(), 20)
        await listening
        asking.close()
        dns.close()
    assert code in (0, -9)


def _everything(cluster: DemoCluster) -> tuple[Change, ...]:
    services = [parse_service(raw) for raw in cluster.objects("Service")]
    slices = [parse_endpoint_slice(raw) for raw in cluster.objects("EndpointSlice")]
    return (
        *(Change(Kind.SERVICE, key_of(item), item) for item in services),
        *(Change(Kind.SLICE, key_of(item), item) for item in slices),
    )


def host_network(address: Address) -> str:
    """As reports name the route to ``address``."""
    return str(ip_network(address))
