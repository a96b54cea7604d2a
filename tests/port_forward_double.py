"""Port-forward without a tunnel, a port of loopback: each connection a websocket; and kubectl itself."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
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


@asynccontextmanager
async def kubectl_to(cluster: DemoCluster, target: Target = ECHO, *, websocket: bool) -> AsyncIterator[int]:
    """The port of loopback that kubectl leads to ``target``, with its session in a websocket (since 1.31) or not.

    0 where kubectl is not installed.
    """
    if shutil.which("kubectl") is None:
        yield 0
        return
    with tempfile.TemporaryDirectory() as home:
        config = Path(home, "config")
        config.write_text(cluster.kubeconfig(token="of-nobody"))
        ways = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": str(websocket).lower()}
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "port-forward", "--address", "127.0.0.1", "--namespace", target.namespace),
            *(f"pod/{target.pod}", f":{target.port}"),
            env={**os.environ, "KUBECONFIG": str(config), "HOME": home, **ways},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert process.stdout
            async with asyncio.timeout(30):
                said = (await process.stdout.readline()).decode()
            found = re.search(r"127\.0\.0\.1:(\d+) -> ", said)
            assert found, said
            yield int(found[1])
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


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
