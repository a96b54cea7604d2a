"""A program on a terminal of its own."""

from __future__ import annotations

import os
import pty
import time
from collections.abc import Sequence

from conftest import CHECKOUT

DEADLINE = 30.0
"""Seconds until what is waited for must have been printed."""


class Terminal:
    """The keyboard and the screen of ``command``."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(CHECKOUT)
            os.execve(command[0], list(command), os.environ | environment)  # noqa: S606
        os.set_blocking(self._master, False)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` is there; what came before and it is forgotten."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self._master, 4096).decode()
            except BlockingIOError:
                time.sleep(0.01)
        self.seen = self.seen.partition(text)[2]

    def end(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        finally:
            os.close(self._master)
