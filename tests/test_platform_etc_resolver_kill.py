"""The back end ``etc-resolver``, killed before each thing it does to the folder: what it leaves is whole, and goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from conftest import CHECKOUT
from mac_double import MacDouble
from test_platform_contract_split import LINK

from resolverd_platform.etc_resolver import EtcResolverBackend, take_back

LIFE = """\
import asyncio, os, signal, sys
from dataclasses import replace
from pathlib import Path
from mac_double import MacDouble
from test_platform_contract_split import LINK, WANT
from resolverd_platform.etc_resolver import EtcResolverBackend

folder, last, steps = Path(sys.argv[1]), int(sys.argv[2]), 0

def before(event, arguments):
    global steps
    deeds = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
    if event in deeds and any(str(folder) in str(each) for each in arguments[:2]):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), 9)

async def live():
    one = EtcResolverBackend(LINK, MacDouble(folder), folder)
    await one.apply(WANT)
    await one.apply(replace(WANT, routing=("cluster.local", "billing")))
    await one.revert()

sys.addaudithook(before)
asyncio.run(live())
"""
FOREIGN = "# a VPN's\nnameserver 192.0.2.1\n"


async def test_killed_at_any_step_it_leaves_whole_files_and_they_can_be_taken_back(tmp_path: Path) -> None:
    folder, step = tmp_path / "resolver", 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        folder.mkdir(exist_ok=True)
        (folder / "vpn.example").write_text(FOREIGN)
        command = [sys.executable, "-c", LIFE, str(folder), str(step)]
        path = ":".join(str(CHECKOUT / each) for each in ("", "platform", "tunnel", "tests"))
        code = subprocess.run(command, env={"PYTHONPATH": path}, check=False).returncode  # noqa: ASYNC221
        whole = [each for each in folder.iterdir() if not each.name.startswith(".") and each.name != "vpn.example"]
        assert all("nameserver" in each.read_text() or "search" in each.read_text() for each in whole), step
        if step % 2:
            take_back(folder)
        else:
            await EtcResolverBackend(LINK, MacDouble(folder), folder).revert()
        assert [(each.name, each.read_text()) for each in folder.iterdir()] == [("vpn.example", FOREIGN)], step
    assert code == 0
    assert step > 20, "every file is a step or two"
