"""A stand-in for the daemon, to be killed: makes a device, starts the tunnel process on it, says so, and waits."""

from __future__ import annotations

import asyncio
import socket
import sys

from resolverd.channel import Channel
from resolverd.feed import Ready
from resolverd.sockets import message_pair
from resolverd_tunnel.device_linux import create_device


async def main(name: str) -> None:
    device = create_device(name)
    ours, theirs = socket.socketpair()
    told, _telling = message_pair()
    handed = {"--channel": theirs.fileno(), "--tun": device.fd, "--behind": told.fileno()}
    options = [str(part) for option in handed.items() for part in option]
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "resolverd_tunnel.worker", *options, "--ifindex", str(device.ifindex)),
        pass_fds=tuple(handed.values()),
    )
    theirs.close()
    channel = await Channel.over(ours)
    while await channel.receive() != Ready("tunnel"):
        pass
    print(worker.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
