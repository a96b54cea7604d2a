"""Connections that could not be made, and why: each is logged once, and the latest are there for ``status``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from resolverd.errors import one_line

log = logging.getLogger(__name__)

MOST = 256
"""Destinations remembered; the one that was longest not asked for goes first."""
SHOWN = 10


@dataclass(slots=True)
class Refusals:
    """The last refusal of each destination, ``ADDRESS:PORT``."""

    _last: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Why, and how many times in a row, the latest last."""

    def note(self, destination: str, why: str) -> None:
        """A connection was refused; the log says so when it is for another reason than the last one."""
        why = one_line(why)
        before, times = self._last.pop(destination, ("", 0))
        self._last[destination] = why, times + 1 if why == before else 1
        if why != before:
            log.info("%s: %s", destination, why)
        if len(self._last) > MOST:
            del self._last[next(iter(self._last))]

    def forget(self, destination: str) -> None:
        """A connection was made: the next refusal is news again."""
        self._last.pop(destination, None)

    def values(self) -> list[dict[str, object]]:
        """The latest, for ``status``; the last one first."""
        latest = list(self._last.items())[: -SHOWN - 1 : -1]
        return [{"to": to, "why": why, "times": times} for to, (why, times) in latest]
