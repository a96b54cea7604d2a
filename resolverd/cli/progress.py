"""Steps of something long, each with its time, on standard error."""

from __future__ import annotations

import os
import sys
import time
from typing import Self, TextIO

from resolverd.errors import ResolverdError, one_line

GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def coloured(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal whose user has nothing against colour (no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Steps:
    """Prints a line when a step is done, with the time since the beginning; on a terminal also what is waited for.

    As a context: when the block fails, the step that was waited for is the one that failed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colour = coloured(self._stream)
        self._began = time.monotonic()
        self._waiting = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._waiting and isinstance(error, ResolverdError):
            self._line(RED, "✗", self._waiting)
        elif error is not None:
            self.forget()

    def waiting(self, text: str) -> None:
        """Say what is waited for; overwritten by the step's end, and not shown where it cannot be."""
        self._waiting = one_line(text)
        self.tick()

    def tick(self) -> None:
        """Show for how long, by now."""
        if self._waiting and self._stream.isatty():
            line = f"  {self._clock()}  {self._waiting}"
            room = self._columns() - 3  # one that reaches the edge could not be taken back
            self._write(f"\r\x1b[K{self._paint(DIM, line[:room] + ' …')}")

    def done(self, text: str) -> None:
        self._line(GREEN, "✓", text)

    def forget(self) -> None:
        """Take back what was said to be waited for."""
        self._waiting = ""
        self._write(self._clear())

    def _line(self, colour: str, mark: str, text: str) -> None:
        self._waiting = ""
        self._write(f"{self._clear()}{self._paint(colour, mark)} {self._paint(DIM, self._clock())}  {text}\n")

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:4.1f} s"

    def _columns(self) -> int:
        return os.get_terminal_size(self._stream.fileno()).columns or 80

    def _clear(self) -> str:
        return "\r\x1b[K" if self._stream.isatty() else ""

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
