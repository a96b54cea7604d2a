"""Running nft: one child that owns our table for as long as it lives, and short ones that look."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from ipaddress import ip_address
from typing import IO

from resolverd.errors import HostError, one_line
from resolverd.host import Server

from .command import Finished, Programs
from .nft_table import FAMILY, TABLE, Redirection, redirection_of, table

DEADLINE = 5.0
"""Seconds nft has for anything."""
_POLL = 0.02
_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where nft is, and an ordinary user's PATH does not lead."""
_TRIAL = Redirection(frozenset({ip_address("192.0.2.1")}), (Server(ip_address("127.0.0.1")),))


def program() -> str | None:
    """Where nft is; None when it is not installed."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:{_FOLDERS}")


async def why_not(mark: int) -> str:
    """Why this host cannot redirect by a table of ours; empty when it can. The kernel checks one, and adds nothing."""
    if program() is None:
        return "nft is not installed (package nftables)"
    # It reads nothing, and ends; some builds cannot. Then the kernel is asked.
    for arguments in (("--interactive",), ("--check", table(_TRIAL, mark, name=f"{TABLE}-trial"))):
        tried = await _run(*arguments)
        if tried.code != 0:
            return f"nft cannot: {_first_line(tried.err)}"
    return ""


async def current() -> Redirection:
    """What the table of that name does now, whoever owns it."""
    listed = await _run("--numeric", "list", "table", FAMILY, TABLE)
    try:
        return redirection_of(listed.out if listed.code == 0 else "")
    except ValueError as error:
        raise HostError("nft", "its listing makes no sense", "use --backend none") from error


@dataclass(slots=True, eq=False)
class Owner:
    """The child whose table it is. It ends with its standard input, so it cannot outlive us."""

    mark: int
    containers: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _said: IO[bytes] | None = None
    """What the child complains of."""

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def hold(self, redirection: Redirection) -> None:
        """Have the table say ``redirection``, changed in one transaction. HostError when it does not come to be."""
        line = table(redirection, self.mark, containers=self.containers)
        if self.is_alive:
            line = f"delete table {FAMILY} {TABLE}; {line}"
        else:
            self._start()
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018 - started above
        with contextlib.suppress(BrokenPipeError):  # why, is found out below
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while True:
            there = await current() == redirection
            # Another's table may look the same: nft then says that it may not touch it.
            if not self.is_alive or self._complaint() or asyncio.get_running_loop().time() > deadline:
                why = self._complaint() or "the table does not come to be"
                self.let_go()  # the next one begins without this one's complaints
                raise HostError("nftables", why, _FIX)
            if there:
                return
            await asyncio.sleep(_POLL)

    def let_go(self) -> None:
        """End the child; the kernel removes the table before that is over."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._said is not None:
            self._said.close()
            self._said = None

    def _start(self) -> None:
        self.let_go()
        command = [program() or "nft", "--interactive"]
        try:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - let_go closes it
            # A session of its own: Ctrl-C is the daemon's, which lets go when everything else is put back.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True
            )
        except OSError as error:
            self.let_go()
            raise HostError("nft", f"it cannot be started: {error.strerror}", _FIX) from error

    def _complaint(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        return _first_line(self._said.read().decode(errors="replace"))


_FIX = "see nft list ruleset; another resolverd may be running: resolverd down"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _run(*arguments: str) -> Finished:
    """HostError when nft hangs or cannot be started."""
    return await Programs(DEADLINE)(program() or "nft", *arguments)


def _first_line(said: str) -> str:
    return one_line(next(iter(said.splitlines()), "")).removeprefix("Error: ")
