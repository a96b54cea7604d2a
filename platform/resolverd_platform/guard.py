"""A small process that outlives the daemon by a moment: when that is killed, it undoes what the journal names.

``python -m resolverd_platform.guard --folder STATE --run RUN`` says ``ready``, then waits for its standard input to
end: the daemon holds the other end and never writes. It has a session of its own, so that Ctrl-C does not reach it.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from resolverd.errors import HostError, ResolverdError
from resolverd.state import PYTHON

from .journal import Journal
from .undo import undo

DEADLINE = 10.0
"""Seconds a guard has to start, or to end."""


@dataclass(slots=True, eq=False)
class Guard:
    """The daemon's side."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path, run: str) -> Self:
        """A guard that waits already. HostError when there is none within ``DEADLINE``; blocks so long."""
        command = [*PYTHON, "resolverd_platform.guard", "--folder", str(folder), "--run", run]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/"
            )
        except OSError as error:
            why = f"{error.strerror}, and nothing is changed without it"
            raise HostError("guard process", why, "end other programs") from error
        guard = cls(process)
        assert process.stdout is not None  # noqa: S101 - asked for above
        ready = select.select([process.stdout], [], [], DEADLINE)[0] and process.stdout.readline() == b"ready\n"
        if not ready:
            process.kill()
            guard.dismiss()
            raise HostError("guard process", "it does not start, and nothing is changed without it", "see the log")
        return guard

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def dismiss(self) -> None:
        """Have it end; it finds nothing to do when the journal is clear."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="resolverd_platform.guard")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--run", required=True)
    arguments = parser.parse_args()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever ends everything ends the daemon, too: then comes our work
    print("ready", flush=True)
    with contextlib.suppress(OSError):
        while sys.stdin.buffer.read(1):
            pass
    journal = Journal(arguments.folder)
    if not journal.folder.is_dir():
        return 0
    try:
        with journal.locked():
            done = undo(journal, run=arguments.run)
    except FileNotFoundError:  # somebody has cleaned up meanwhile
        return 0
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code
    for what in done:
        print(f"resolverd: the daemon was killed: {what}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
