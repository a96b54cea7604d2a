"""What is on the host, and who is left of a program that was killed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from conftest import CHECKOUT

DEADLINE = 30.0
"""Seconds until what is to vanish must have vanished."""


def survey() -> dict[str, str]:
    """What of the host a stage must not change. /tmp is not looked at: others may be using it."""
    looks = {
        "links": "ip -brief link",
        "addresses": "ip -brief address",
        "routes": "ip route show table all; ip -6 route show table all",
        "rules": "ip rule; ip -6 rule",
        "rulesets": "nft list ruleset",
        "resolver": "ls -l --time-style=+ /etc/resolv.conf; cat /etc/resolv.conf",
        "accounts": "cat /etc/passwd /etc/group /etc/nsswitch.conf",
        "mounts": "cat /proc/self/mountinfo",
        "files": "ls -lA --time-style=+ /run /dev/shm $TMPDIR",
        "network namespaces": "ip netns list",
    }
    return {what: subprocess.getoutput(command) for what, command in looks.items()}  # noqa: S605 - ours


def killed_after(command: Sequence[str], seconds: float) -> list[str]:
    """Start ``command``, kill -9 it a moment later, and wait for all it started to end: the ones that do not."""
    mark = str(uuid4())
    outermost = subprocess.Popen(
        command, cwd=CHECKOUT, env=os.environ | {"UNDER_TEST": mark}, stdout=subprocess.DEVNULL
    )
    time.sleep(seconds)
    outermost.kill()
    outermost.wait()
    deadline = time.monotonic() + DEADLINE
    while (left := _processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _processes_with(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
