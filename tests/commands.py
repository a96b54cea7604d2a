"""Running resolverd as a user does: as a process, with what it prints and the code it ends with."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

LONGEST = 40.0
"""Seconds that only a hang takes."""
NOBODY = 65534


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on standard error that begins with the program's name."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("resolverd: ")]
        return line


async def resolverd(*arguments: str, user: int | None = None, environment: Mapping[str, str] | None = None) -> Finished:
    """Run ``resolverd`` to its end, as ``user`` when one is given, with ``environment`` added to ours."""
    process = await _start(arguments, user, environment or {})
    out, err = await asyncio.wait_for(process.communicate(), LONGEST)
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def shell(command: str) -> Finished:
    """Run a shell command to its end."""
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), LONGEST)
    return Finished(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Running:
    """A process in the foreground."""

    process: asyncio.subprocess.Process
    log: Path

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), LONGEST)


@asynccontextmanager
async def running(folder: Path, *arguments: str, user: int | None = None) -> AsyncIterator[Running]:
    """``resolverd ARGUMENTS`` in the foreground while entered; its log is ``folder/log``."""
    log = folder / "log"
    with log.open("wb") as output:
        process = await _start(arguments, user, {}, output.fileno())
    one = Running(process, log)
    try:
        yield one
    finally:
        await one.end()


async def _start(
    arguments: tuple[str, ...], user: int | None, environment: Mapping[str, str], output: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(() if user is None else _as_user(user)),
        sys.executable,
        "-m",
        "resolverd",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, **environment},
    )


def _as_user(user: int) -> list[str]:
    """The command that becomes ``user``, in mounts of its own where that user can reach Python and the checkout.

    Both may lie in the home folder of root, which nobody else may enter: there it has nothing but the two.
    """
    needed = {str(Path(path).resolve()) for path in (sys.base_prefix, sys.prefix, Path(__file__).parents[1])}
    script = ["set -e", "[ -z $TMPDIR ] || chmod -R go+X $TMPDIR"]
    closed = {str(top) for path in needed for top in Path(path).parents if not top.stat().st_mode & 0o001}
    for number, top in enumerate(sorted(closed)):
        kept = sorted(path for path in needed if Path(top) in Path(path).parents)
        for which, path in enumerate(kept):
            script += [f"mkdir -p /run/kept/{number}-{which}", f"mount --bind {path} /run/kept/{number}-{which}"]
        script.append(f"mount -t tmpfs -o mode=755 none {top}")
        for which, path in enumerate(kept):
            script += [f"mkdir -p {path}", f"mount --bind /run/kept/{number}-{which} {path}"]
    script.append(f'exec setpriv --reuid {user} --regid {user} --clear-groups "$@"')
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script), "sh"]
