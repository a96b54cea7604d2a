"""Port-forward as kubectl does it: a port of loopback, each connection a websocket, and no tunnel."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.transport import MAX_SEND, StreamBrokenError

ECHO = Target("shop", "echo-1", 7007)


@asynccontextmanager
async def websockets_to(server: str) -> AsyncIterator[int]:
    """The port of loopback that leads to the pod ``echo-1``; served by a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, server, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def serve(server: str) -> None:
    transport = PortForward(Access(server), lambda: None)

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = await transport.open(ECHO)

        async def up() -> None:
            while data := await reader.read(MAX_SEND):
                await stream.send(data)

        async def down() -> None:
            while data := await stream.receive():
                writer.write(data)
                await writer.drain()

        try:
            tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except (ConnectionError, StreamBrokenError):
            pass
        finally:
            writer.transport.abort()
            await stream.close()

    listening = await asyncio.start_server(join, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
