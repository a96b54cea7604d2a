"""Mistakes in what somebody wrote: where, and what. All of them are gathered before anybody is told."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from resolverd.errors import UsageError, one_line

MOST_IN_A_LINE = 20
"""Mistakes named in one error message; ``resolverd config check`` prints more."""
MOST = 1000
"""Mistakes kept: a file of nothing but mistakes must not fill the log."""
SEE = "see docs/options.md"


@dataclass(frozen=True, slots=True)
class Mistake:
    place: str
    """``FILE:LINE:COLUMN``, ``FILE`` or ``flag --NAME``."""
    what: str
    fix: str = SEE

    def __str__(self) -> str:
        return one_line(f"{self.place}: {self.what}")


def error(mistakes: Sequence[Mistake]) -> UsageError:
    """One line that names every mistake."""
    named = "; ".join(str(mistake) for mistake in mistakes[:MOST_IN_A_LINE])
    more = len(mistakes) - MOST_IN_A_LINE
    counted = f"; and {more} more, see resolverd config check" if more > 0 else ""
    return UsageError("config", named + counted, mistakes[0].fix if len(mistakes) == 1 else SEE)


def unknown(key: str, known: Iterable[str], settings: Collection[str] = ()) -> str:
    """What is wrong with a key that nobody knows, and which one was probably meant.

    ``settings`` are all there are, as ``dns.ttl``: a key that only stands in the wrong place is told the right one.
    """
    names, written = list(known), key[:100]
    meant = written.lower().replace("_", "-")
    section, _, key = meant.partition(".")
    if meant in settings:
        return f"unknown key {written}, write {key} below {section}"
    near = [meant] if meant in names else [name for name in settings if name.partition(".")[2] == meant]
    near = near or difflib.get_close_matches(meant, names, 1)
    return f"unknown key {written}" + (f", did you mean {near[0]}?" if near else f", known are {', '.join(names)}")
