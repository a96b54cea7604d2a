"""How long the commands take that people wait for: --help (at most 150 ms), status (250 ms), doctor."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resolverd.demo.cluster import DemoCluster

RUNS = 15
PROGRAM = (sys.executable, "-P", "-m", "resolverd")
WANTED = {"--help": 0.150, "status": 0.250}
"""Seconds, on an idle machine."""


def median(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time of the middle run, and processor time of one, in seconds."""
    taken, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run([*PROGRAM, *arguments], env=environment, capture_output=True, check=False)
        taken.append(time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return statistics.median(taken), used / RUNS


async def measure(folder: Path) -> None:
    async with DemoCluster() as cluster:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(cluster.kubeconfig())
        kubeconfig.chmod(0o600)
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        where = ["--state-dir", str(folder / "state")]
        started = [*PROGRAM, "up", "--backend", "none", "--no-tunnel", "--dns-listen", "127.0.0.1:0", *where]
        process = await asyncio.create_subprocess_exec(*started, env=environment, stderr=asyncio.subprocess.DEVNULL)
        await process.wait()
        try:
            for arguments in (["--help"], ["status", *where], ["doctor", *where]):
                middle, used = await asyncio.to_thread(median, arguments, environment)
                wanted = WANTED.get(arguments[0])
                limit = f", wanted {wanted * 1000:.0f} ms" if wanted else ""
                print(f"{arguments[0]:<8} median {middle * 1000:.0f} ms, of the processor {used * 1000:.0f} ms{limit}")
        finally:
            process = await asyncio.create_subprocess_exec(*PROGRAM, "down", *where)
            await process.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
