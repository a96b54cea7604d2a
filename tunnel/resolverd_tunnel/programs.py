"""The programs of macOS that configure its network, run to the end; behind a function, so that tests need no Mac."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

IFCONFIG, ROUTE, NETSTAT = "/sbin/ifconfig", "/sbin/route", "/usr/sbin/netstat"
DEADLINE = 5.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str = ""

    @property
    def said(self) -> str:
        """Its last words."""
        return next(iter((self.err.strip() or self.out.strip()).splitlines()[-1:]), "")


def run_program(command: Sequence[str]) -> Finished:
    """Run ``command`` without a shell, in the C locale. OSError when it cannot be run or does not end."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=DEADLINE, env={"LC_ALL": "C"}, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} did not end within {DEADLINE:g} s") from error
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
