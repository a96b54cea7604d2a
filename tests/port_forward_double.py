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
from typing import NamedTuple

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.transport import MAX_SEND, StreamBrokenError

ECHO = Target("shop", "echo-1", 7007)


class Forwarder(NamedTuple):
    """A process that leads a port of loopback to a pod."""

    port: int
    """0 where there is no such process."""
    pid: int


@asynccontextmanager
async def websockets_to(access: Access) -> AsyncIterator[Forwarder]:
    """To the pod ``echo-1``; of ``access`` only the server and its authority are used."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, access.server, access.ca_pem), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        yield Forwarder(int(await process.stdout.readline()), process.pid)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def kubectl_to(cluster: DemoCluster, target: Target = ECHO, *, websocket: bool) -> AsyncIterator[Forwarder]:
    """kubectl, where it is installed, with its session in a websocket (since 1.31) or not."""
    if shutil.which("kubectl") is None:
        yield Forwarder(0, 0)
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
            yield Forwarder(int(found[1]), process.pid)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def serve(access: Access) -> None:
    transport = PortForward(access, lambda: None)

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
    asyncio.run(serve(Access(sys.argv[1], ca_pem=sys.argv[2])))
