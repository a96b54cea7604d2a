"""The host's resolver following the cluster: a real systemd-resolved on a stage, a real daemon. Needs root.

How long from a namespace in the API to its domain on the link, and from an event of systemd-resolved's life to settings
that are in force again. Prints; never fails because of a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from resolverd.demo.cluster import DemoCluster
from resolverd_platform.dbus import Bus, BusError, Call, FastBus

NAMESPACES = 200
LINK = "resolverd0"
_MANAGER = ("org.freedesktop.resolve1", "/org/freedesktop/resolve1")


async def domains() -> set[str]:
    """Of our link, asked over the bus: resolvectl would take longer to start than what is measured."""
    call = Call(*_MANAGER, "org.freedesktop.DBus.Properties", "Get", "ss", (f"{_MANAGER[0]}.Manager", "Domains"))
    try:
        (entries,) = await bus().call(call)
        index = socket.if_nametoindex(LINK)
    except (BusError, OSError):
        return set()
    return {name for number, name, _ in entries if number == index}


@functools.cache
def bus() -> Bus:
    return FastBus()


async def taken(condition: Callable[[], Awaitable[bool]], pause: float = 0.001) -> float:
    """Seconds until ``condition`` holds."""
    began = time.perf_counter()
    while not await condition():
        await asyncio.sleep(pause)
    return time.perf_counter() - began


async def namespaces(cluster: DemoCluster) -> None:
    found: list[float] = []
    for number in range(NAMESPACES):
        name = f"bench-{number}"
        cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})

        async def told(name: str = name) -> bool:
            return name in await domains()

        found.append(await taken(told) * 1000)
    found.sort()
    p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99) - 1]
    print(f"namespace in the API to domain on the link: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {found[-1]:.1f} ms")


async def troubles() -> None:
    before = await domains()
    services = [sys.executable, "-m", "resolverd.demo.services"]

    async def as_before() -> bool:
        return await domains() == before

    await asyncio.to_thread(subprocess.run, [*services, "stop"], check=True)
    for saved in Path("/run/systemd/resolve/netif").glob("*"):
        saved.unlink()
    await asyncio.to_thread(subprocess.run, [*services, "start"], check=True)
    print(f"resolved started anew, settings lost: in force after {await taken(as_before) * 1000:.0f} ms")
    pid = int(Path("/run/stage/resolved.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(4)
    os.kill(pid, signal.SIGCONT)
    print(f"resolved thawed: in force after {await taken(as_before) * 1000:.0f} ms")
    await asyncio.sleep(6)
    await asyncio.to_thread(subprocess.run, ["resolvectl", "revert", LINK], check=True)
    print(f"link reverted by another program: in force after {await taken(as_before) * 1000:.0f} ms")


async def bench() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with DemoCluster() as cluster:
            file = Path(folder, "kubeconfig")
            file.write_text(cluster.kubeconfig())
            command = [sys.executable, "-m", "resolverd", "run", "--kubeconfig", str(file), "--log-level", "error"]
            daemon = await asyncio.create_subprocess_exec(*command)
            try:

                async def started() -> bool:
                    return "svc" in await domains()

                print(f"start to domains in force: {await taken(started) * 1000:.0f} ms")
                await namespaces(cluster)
                await troubles()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    daemon.terminate()
                await daemon.wait()


if __name__ == "__main__":
    if "RESOLVERD_STAGE" in os.environ:
        asyncio.run(bench())
    else:
        stage = [sys.executable, "-m", "resolverd.demo.stage", "--", sys.executable]
        raise SystemExit(subprocess.run([*stage, __file__], check=False).returncode)
