"""How wide a page for people is, and where its lines break."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from resolverd.errors import one_line

INDENT = 11
"""Columns for the title of a row."""
_NARROWEST, _WIDEST = 40, 140
_NO_TERMINAL = (100, 24)
"""Columns and lines where the output is no terminal, and $COLUMNS does not say."""


def columns() -> int:
    """The width to lay out for: the terminal's, within reason."""
    return max(_NARROWEST, min(shutil.get_terminal_size(_NO_TERMINAL).columns, _WIDEST))


def wrapped(text: str, room: int) -> list[str]:
    """Lines of ``room`` columns at most. A longer word stays whole, to be copied, and the terminal breaks it."""
    return textwrap.wrap(one_line(text), max(1, room), break_long_words=False, break_on_hyphens=False) or [""]


def shortened(text: str, most: int) -> str:
    """``text`` with the end alone of every path that takes more than ``most`` columns: it says whose file it is."""
    return " ".join(_end(word) if len(word) > most else word for word in text.split(" "))


def _end(word: str) -> str:
    parts = word.split("/")
    return f"…/{'/'.join(parts[-2:])}" if word.startswith("/") and len(parts) > 3 else word


def row(title: str, text: str) -> Iterator[str]:
    """``text`` in a column of its own beside ``title``."""
    for number, line in enumerate(wrapped(text, columns() - INDENT)):
        yield f"{'' if number else title:<{INDENT}}{line}"
