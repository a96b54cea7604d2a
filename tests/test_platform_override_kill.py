"""kill -9 at every moment of the overriding resolver: the host works again by itself, ``cleanup`` leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from commands import resolverd
from conftest import CHECKOUT
from fakes import eventually
from host_survey import survey
from lan_double import RESOLV_CONF, lan_host

from resolverd.cli import cleanup
from resolverd.host import HostDns, Server
from resolverd.state import StateDirectory
from resolverd_platform.override import OverrideBackend

pytestmark = pytest.mark.staged

SERVERS = (Server(ip_address("127.0.53.53")), Server(ip_address("::1"), 5390))
WANT = HostDns("", SERVERS, ("cluster.local",), ("default.svc.cluster.local",))
POINTS = ("guarded", "journalled", "renaming", "written", "restored", "cleared", "never")
"""Where the daemon is killed; at the last one when all is in force."""


@pytest.fixture(scope="module", autouse=True)
def lan() -> Iterator[None]:
    with lan_host():
        yield


def dump() -> dict[str, str]:
    """The host, but for the test's own files."""
    return {what: text for what, text in survey().items() if what != "files"} | {
        "etc": subprocess.getoutput("ls -lA --time-style=+ /etc"),  # noqa: S605 - ours
    }


def die(way: str, folder: str, point: str) -> None:
    """Be a daemon that is killed at ``point``. Runs as a process of its own."""

    async def no_nft(mark: int) -> str:
        return "not here" if way == "file" else ""

    def step(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def live() -> None:
        backend = OverrideBackend("", Path(folder), why_not_nft=no_nft)
        backend._replacement.step = step
        if point == "renaming":
            rename = Path.rename

            def die_first(self: Path, target: Path) -> Path:
                step(point if target.name == RESOLV_CONF.name else "")
                return rename(self, target)

            Path.rename = die_first  # type: ignore[assignment,method-assign]
        await backend.apply(WANT)
        if point in ("restored", "cleared"):
            await backend.revert()
        step("never")
        print("in force", flush=True)
        await asyncio.sleep(60)

    with StateDirectory(Path(folder)):
        asyncio.run(live())


@asynccontextmanager
async def daemon(way: str, folder: Path, point: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, way, str(folder), point),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": ":".join(f"{CHECKOUT}/{each}" for each in ("", "platform", "tunnel", "tests"))},
    )
    yield process
    await process.wait()


async def resolves() -> bool:
    """Whether a public name resolves as in any program."""
    process = await asyncio.create_subprocess_exec("getent", "hosts", "www.public.example", stdout=-3)
    return await process.wait() == 0


@pytest.mark.parametrize("point", POINTS)
async def test_names_resolve_again_by_themselves_and_cleanup_leaves_nothing(tmp_path: Path, point: str) -> None:
    before = dump()
    folder = tmp_path / "state"
    async with daemon("file", folder, point) as process:
        assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
    killed = time.monotonic()
    while not await resolves():
        assert time.monotonic() - killed < 30, "the guard has not put the file back"
        await asyncio.sleep(0.05)
    cleanup.undo(folder)
    assert dump() == before
    assert not folder.exists()
    assert cleanup.undo(folder) == []


async def test_what_nftables_does_ends_with_us(tmp_path: Path) -> None:
    before = dump()
    async with daemon("nft", tmp_path / "state", "") as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"in force\n"
        assert not await resolves(), "nobody listens where the questions go"
        process.kill()
    await eventually(lambda: dump()["rulesets"] == before["rulesets"])
    assert await resolves()
    await resolverd("cleanup", "--state-dir", str(tmp_path / "state"))
    assert dump() == before


def children_of(task: Path) -> list[int]:
    return [int(pid) for pid in (task / "children").read_text().split()]


@pytest.mark.parametrize("command", ["cleanup", "down"])
async def test_without_its_guard_too_cleanup_and_down_put_the_file_back(tmp_path: Path, command: str) -> None:
    before, folder = RESOLV_CONF.read_text(), tmp_path / "state"
    async with daemon("file", folder, "") as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
        refused = await resolverd("cleanup", "--state-dir", str(folder))
        assert (refused.code, "resolverd down" in refused.complaint) == (6, True)
        (guard,) = [pid for task in Path(f"/proc/{process.pid}/task").iterdir() for pid in children_of(task)]
        os.kill(guard, signal.SIGKILL)
        process.kill()
    assert RESOLV_CONF.read_text() != before
    cleaned = await resolverd(command, "--state-dir", str(folder))
    said = {"cleanup": "/etc/resolv.conf put back\n"}
    said["down"] = f"resolverd was not running; {said['cleanup']}"
    assert (cleaned.code, cleaned.out) == (0, said[command])
    assert RESOLV_CONF.read_text() == before
    assert not folder.exists()


if __name__ == "__main__":
    die(*sys.argv[1:])
