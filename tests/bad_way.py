"""A way to a server that loses packets or lets them overtake each other: what netem does, where the kernel has none.

Two TUN devices, one here and one in a private namespace where the server's port is, and between them a loop that has
its bad moments. Packets are of an ordinary network's size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tuns import ip

from resolverd_tunnel.device_linux import create_device
from resolverd_tunnel.namespace import PrivateNamespace

MTU = 1500
HERE, THERE, PORT = "198.51.100.1", "198.51.100.2", 6443
LATE = 0.005
"""Seconds that an overtaken packet is late: dozens pass it."""
_BUDGET = 64


@dataclass
class BadWay:
    """What goes wrong, as chances from 0 to 1, and how often it did."""

    lost: float = 0.0
    overtaken: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(6))  # repeatable, no secret

    @property
    def url(self) -> str:
        """Of the server at its end."""
        return f"http://{THERE}:{PORT}"

    def carry(self, source: int, target: int) -> None:
        """Move what there is to read from one device to the other."""
        for _ in range(_BUDGET):
            try:
                packet = os.read(source, MTU)
            except BlockingIOError:
                return
            fate = self.chance.random()
            if fate < self.lost:
                self.happened["lost"] += 1
            elif fate < self.lost + self.overtaken:
                self.happened["overtaken"] += 1
                asyncio.get_running_loop().call_later(LATE, _put, target, packet)
            else:
                self.happened["carried"] += 1
                _put(target, packet)


@asynccontextmanager
async def bad_way(to: int, *, lost: float = 0.0, overtaken: float = 0.0) -> AsyncIterator[BadWay]:
    """A way to ``to``, a port of loopback, at whose end it seems to be another machine's."""
    way, loop = BadWay(lost, overtaken), asyncio.get_running_loop()
    with contextlib.ExitStack() as opened:
        device = create_device("way0", MTU, (HERE,))
        opened.callback(device.close)
        ip("route", "add", THERE, "dev", "way0")
        namespace = PrivateNamespace.create(MTU)
        opened.callback(namespace.close)
        for one, other in ((device.fd, namespace.tun), (namespace.tun, device.fd)):
            loop.add_reader(one, way.carry, one, other)
            opened.callback(loop.remove_reader, one)
        listener = namespace.listen(socket.AF_INET, PORT, 128)
        joining: set[asyncio.Task[None]] = set()

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
            for ends in ((reader, there_writer), (there_reader, writer)):
                task = asyncio.create_task(_pipe(*ends))
                joining.add(task)
                task.add_done_callback(joining.discard)

        server = await asyncio.start_server(join, sock=listener)
        try:
            yield way
        finally:
            server.close()
            for task in tuple(joining):
                task.cancel()
            await asyncio.gather(*joining, return_exceptions=True)
            await asyncio.sleep(2 * LATE)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


def _put(device: int, packet: bytes) -> None:
    with contextlib.suppress(BlockingIOError):  # a full queue loses packets, too
        os.write(device, packet)
