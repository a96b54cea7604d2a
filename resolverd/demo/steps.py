"""A tour as data: commands, why they are shown, and what their output must look like."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from resolverd.errors import ResolverdError

_PAUSE = 0.1
"""Seconds between two tries of a command that may need a moment."""
_LONGEST = 60.0
"""Seconds after which a command is taken to hang."""
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a tour. Patterns are regular expressions, searched line by line."""

    why: str
    command: str
    """As one would type it into bash. ``{name}`` stands for what an earlier step's group of that name found."""
    expect: tuple[str, ...] = ()
    """Each must be found in the output; named groups are remembered."""
    never: tuple[str, ...] = ()
    """None may be found."""
    code: int = 0
    """The exit code that it must have."""
    within: float = 0.0
    """Seconds during which the command is run again until all is as expected; 0: once."""
    short: bool = False
    """Whether the short tour, before a shell, has it too."""


@dataclass(slots=True)
class Guide:
    """Shows steps on a stream and checks what comes out."""

    out: TextIO
    environment: Mapping[str, str]
    found: dict[str, str] = field(default_factory=dict)

    def show(self, step: Step) -> None:
        """Show the command and its output, as a terminal would. ResolverdError when it is not as expected."""
        command = re.sub(r"\{(\w+)\}", lambda name: self.found.get(name[1], name[0]), step.command)
        why = f"\n{self._paint(_DIM, f'# {step.why}')}\n" if step.why else ""
        self._write(f"{why}{self._paint(_BOLD, f'$ {command}')}\n")
        deadline = time.monotonic() + step.within
        while complaint := self._try(step, command, last=time.monotonic() >= deadline):
            if time.monotonic() >= deadline:
                raise ResolverdError("demo", f"`{command}` {complaint}")
            time.sleep(_PAUSE)

    def _try(self, step: Step, command: str, *, last: bool) -> str:
        """Run it once; what is wrong with the result, if anything. A try that will be repeated is not shown."""
        live = step.within == 0
        output = ""
        with subprocess.Popen(
            ["timeout", "--foreground", str(_LONGEST), "bash", "-c", command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                output += line
                if live:
                    self._write(line)
        complaint = self._complaint(step, output, process.returncode)
        if not live and (last or not complaint):
            self._write(output)
        return complaint

    def _complaint(self, step: Step, output: str, code: int) -> str:
        if code != step.code:
            return f"ended with exit code {code} instead of {step.code}"
        for pattern in step.expect:
            match = re.search(pattern, output, re.MULTILINE)
            if match is None:
                return f"did not print {pattern}"
            self.found |= match.groupdict()
        unwanted = next((pattern for pattern in step.never if re.search(pattern, output, re.MULTILINE)), None)
        return "" if unwanted is None else f"printed {unwanted}"

    def _paint(self, style: str, text: str) -> str:
        plain = not self.out.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        return text if plain else f"{style}{text}{_PLAIN}"

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()
