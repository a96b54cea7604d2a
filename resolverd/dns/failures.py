"""Questions that nobody could answer just now: not asked again at once (RFC 9520). Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .outward import Key, Outcome

FIRST = 1.0
"""Seconds for which a failure is kept (RFC 9520 3.2: at least one)."""
LONGEST = 5.0
"""Seconds for which one is kept that came again and again: a network that is back must not look dead for long."""
MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of asking, until when that is said again, and for how long it was to be."""

    outcome: Outcome
    until: float
    """On the loop's clock."""
    kept: float
    """Seconds."""


class Failures:
    """A bounded table of failures; the oldest goes first."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._limit = limit
        self._failures: OrderedDict[Key, Failure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def get(self, key: Key, now: float) -> Outcome | None:
        """What to say to a question that failed lately; None when it is to be asked."""
        failure = self._failures.get(key)
        return failure.outcome if failure and now < failure.until else None

    def put(self, key: Key, outcome: Outcome, now: float) -> None:
        """Keep ``outcome``; twice as long as the last time, when the question failed before."""
        before = self._failures.pop(key, None)
        kept = min(before.kept * 2, LONGEST) if before else FIRST
        self._failures[key] = Failure(outcome, now + kept, kept)
        while len(self._failures) > self._limit:
            self._failures.popitem(last=False)

    def forget(self, key: Key) -> None:
        """The question has an answer."""
        self._failures.pop(key, None)

    def clear(self) -> None:
        self._failures.clear()
