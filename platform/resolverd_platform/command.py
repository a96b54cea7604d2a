"""Programs of the operating system behind a small seam: run to the end, with a deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from resolverd.errors import HostError, NoPermissionError

DEADLINE = 5.0
"""Seconds a program may take."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str


class Runner(Protocol):
    """Runs one program; HostError or NoPermissionError when it cannot be run or does not end."""

    async def __call__(self, *command: str) -> Finished: ...


class Programs:
    """Runs them really: without a shell, without input, in the C locale so that what they print can be read."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline

    async def __call__(self, *command: str) -> Finished:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=nothing, stdout=pipe, stderr=pipe, env=environment
            )
        except PermissionError as error:
            raise NoPermissionError(command[0], "it may not be run", "run as root") from error
        except OSError as error:
            raise HostError(command[0], f"it cannot be run: {error.strerror}") from error
        try:
            out, err = await asyncio.wait_for(process.communicate(), self._deadline)
        except BaseException as error:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise HostError(command[0], f"it did not end within {self._deadline:g} s") from error
            raise
        return Finished(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
