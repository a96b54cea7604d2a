"""How long answers take while the cluster changes and the tunnel is full: the whole daemon, as a user has it.

Runs itself on a stage: the demo cluster, ``resolverd run`` with its tunnel, dnsperf at 5,000 queries a second. Once
with nothing else, once with 50 endpoint changes a second and a download through the tunnel that never ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dns_load import Measured, require, steady

from resolverd.demo.cluster import DemoCluster

RUNS = 5
SECONDS = 3
RATE = 5000
CHANGES = 50
"""Endpoint changes a second."""
OCTETS = 50_000_000_000
"""Of a download that outlasts everything."""


async def command(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


async def resolverd(*arguments: str) -> str:
    return await command(sys.executable, "-m", "resolverd", *arguments)


@asynccontextmanager
async def daemon(cluster: DemoCluster, folder: Path) -> AsyncIterator[str]:
    """A daemon that is up; the address of its DNS server."""
    (folder / "kubeconfig").write_text(cluster.kubeconfig())
    (folder / "config").write_text("dns: {upstreams: []}\n")
    state = str(folder / "state")
    await resolverd(
        "up", "--config", str(folder / "config"), "--kubeconfig", str(folder / "kubeconfig"), "--state-dir", state
    )
    try:
        document = json.loads(await resolverd("status", "--state-dir", state, "-o", "json"))
        yield str(document["dns"]["listen"][0]).rpartition(":")[0]
    finally:
        await resolverd("down", "--state-dir", state)


async def change(cluster: DemoCluster, namespace: str) -> None:
    """A pod comes or goes, and so an endpoint of a service, 50 times a second."""
    spec = {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": 8080}]}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    where = {"name": "x", "namespace": namespace}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": spec})
    pod = {"containers": [{"name": "x", "ports": [{"containerPort": 8080}]}]}
    for number in itertools.count():
        metadata = {"name": f"x-{number}", "namespace": namespace, "labels": {"app": "x"}}
        cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
        await asyncio.sleep(1 / CHANGES)
        cluster.delete("Pod", f"x-{number}", namespace)
        await asyncio.sleep(1 / CHANGES)


async def download() -> None:
    """Fill the tunnel."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-o", "/dev/null", f"http://web.shop.svc.cluster.local/bytes/{OCTETS}"
    )
    try:
        await process.wait()
        raise SystemExit("the download ended")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def measured(address: str, questions: Path, beside: tuple[Callable[[], Awaitable[None]], ...]) -> list[Measured]:
    """The runs, after one to warm up, with ``beside`` going on."""
    tasks = [asyncio.ensure_future(each()) for each in beside]
    try:
        await asyncio.sleep(1)
        runs = [await asyncio.to_thread(steady, address, 53, questions, SECONDS, RATE) for _ in range(RUNS + 1)]
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise result or SystemExit("a load ended")
    return runs[1:]


async def main() -> None:
    require("dnsperf", "curl")
    with tempfile.TemporaryDirectory() as place:
        questions = Path(place) / "questions"
        names = ("web.shop", "db.shop", "web.dev", "kubernetes.default")
        questions.write_text("".join(f"{name}.svc.cluster.local A\n" for name in names))
        async with DemoCluster() as cluster, daemon(cluster, Path(place)) as address:
            print(f"{'beside it':<44}{'p50':>9}{'p99':>12}{'lost':>6}   at {RATE:,}/s")
            loads = {
                "nothing": (),
                f"{CHANGES} endpoint changes/s": (lambda: change(cluster, "churn-1"),),
                f"{CHANGES} endpoint changes/s, a full tunnel": (lambda: change(cluster, "churn-2"), download),
            }
            for text, beside in loads.items():
                runs = await measured(address, questions, beside)
                p50, p99 = (statistics.median(run.percentile(part) for run in runs) for part in (0.5, 0.99))
                print(f"{text:<44}{p50:>6.0f} us{p99:>9.0f} us{sum(run.lost for run in runs):>6}")


if __name__ == "__main__":
    if "STAGE" not in os.environ:
        stage = [sys.executable, "-m", "resolverd.demo.stage", "--", sys.executable, *sys.argv]
        raise SystemExit(subprocess.run(stage, env={**os.environ, "STAGE": "1"}, check=False).returncode)
    asyncio.run(main())
