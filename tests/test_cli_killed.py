"""kill -9 at every step of start, change and stop: the host is as it was, and public names resolve."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from commands import resolverd, shell
from public_dns import public_dns
from test_cli_up import DUMP, lines, until

from resolverd.demo.cluster import DemoCluster

pytestmark = pytest.mark.staged

PROGRAM = str(Path(__file__).with_name("killed_at.py"))
FILES = "find /etc /run -xdev -not -path '/run/tmp/*' -not -path '/run/systemd/resolve*' -not -path '/run/stage/*'"
EVERY = int(os.environ.get("RESOLVERD_TEST_EVERY_STEP", "9"))
"""Every how many steps it is killed: 1 for all of them, which takes a minute or two."""
MOST = 200
"""More steps than there are."""


async def live(folder: Path, cluster: DemoCluster, step: int) -> list[str]:
    """A daemon's whole life, as long as it lasts: started, told of a new namespace, stopped; its steps."""
    steps = folder / "steps"
    command = [sys.executable, PROGRAM, str(steps), str(step), "run", "--kubeconfig", str(folder / "kubeconfig")]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    ended = asyncio.create_task(process.wait())

    async def told(domain: str) -> bool:
        return ended.done() or domain in await lines("resolvectl domain resolverd0")

    await until(lambda: told("~svc"))
    cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": f"new-{step}"}})
    await until(lambda: told(f"~new-{step}"))
    if not ended.done():
        process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(ended, 20)
    made = steps.read_text().splitlines()
    assert code == (-signal.SIGKILL if len(made) >= step else 0), (folder / "log").read_text()
    return made


async def as_before(look: str, before: str) -> bool:
    return (await shell(look)).out == before


async def test_killed_at_any_step_it_leaves_a_working_host(tmp_path: Path) -> None:
    with public_dns(tmp_path):
        before = {look: (await shell(look)).out for look in (DUMP, FILES)}
        async with DemoCluster() as cluster:
            (tmp_path / "kubeconfig").write_text(cluster.kubeconfig(token="t"))
            for step in range(1, MOST, EVERY):
                steps = await live(tmp_path, cluster, step)
                await until(lambda: as_before(DUMP, before[DUMP]))
                assert "203.0.113" in (await shell("getent ahostsv4 example.com")).out, steps[-2:]
                assert (await resolverd("down")).code == 0
                assert await as_before(FILES, before[FILES]), steps[-2:]
                if len(steps) < step:
                    break
            assert len(steps) < step, "the last life is a whole one"
            assert "bus SetLinkDomains" in steps
            assert "bus RevertLink" in steps
