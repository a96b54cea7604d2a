"""A stand-in for the daemon, to be killed: makes a device, starts the tunnel process on it, says so, and waits."""

from __future__ import annotations

import asyncio
import socket
import sys

from resolverd.channel import Channel
from resolverd.feed import Ready
from resolverd_tunnel.device_linux import create_device


async def main(name: str) -> None:
    device = create_device(name)
    ours, theirs = socket.socketpair()
    options = f"--channel {theirs.fileno()} --tun {device.fd} --ifindex {device.ifindex}".split()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "resolverd_tunnel.worker", *options, pass_fds=(theirs.fileno(), device.fd)
    )
    theirs.close()
    channel = await Channel.over(ours)
    while await channel.receive() != Ready("tunnel"):
        pass
    print(worker.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
