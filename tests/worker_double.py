"""A worker process for tests: says what it was told; ends, hangs or fails on request."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket

from resolverd.channel import Channel
from resolverd.errors import HostError
from resolverd.feed import Feed, Ready, Report


async def serve(descriptor: int) -> None:
    channel = await Channel.over(socket.socket(fileno=descriptor))
    await channel.send(Ready("double"))
    while True:
        try:
            message = await channel.receive()
        except EOFError:
            return
        if message == "give up":
            await channel.send(HostError("double", "cannot go on", "try another"))
            return
        if message == "die":
            os._exit(7)
        feed = message if isinstance(message, Feed) else None
        told, synced = (len(feed.changes), feed.synced) if feed else (message, None)
        await channel.send(Report("double", {"told": told, "synced": synced, "pid": os.getpid()}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    asyncio.run(serve(parser.parse_args().channel))


if __name__ == "__main__":
    main()
