"""What a check says, and what a check is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .facts import Facts, Part


class Severity(StrEnum):
    """What a check that fails means."""

    ERROR = "error"
    """Something does not work."""
    WARNING = "warning"
    """It works, and may surprise."""
    INFO = "info"
    """Worth knowing."""


class State(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be found out; the detail says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    detail: str
    fix: str = ""
    """Can be pasted into a shell, or is a line of the config file."""


def ok(detail: str) -> Verdict:
    return Verdict(State.OK, detail)


def failed(detail: str, fix: str) -> Verdict:
    return Verdict(State.FAILED, detail, fix)


def skipped(why: str) -> Verdict:
    return Verdict(State.SKIPPED, why)


Judge = Callable[[Facts], Verdict]


@dataclass(frozen=True, slots=True)
class Examination:
    """One row of the table."""

    id: str
    """Stable: scripts may rely on it."""
    severity: Severity
    judge: Judge
    parts: tuple[Part, ...]
    """What it needs to know."""
    systems: tuple[str, ...] = ()
    """Where it makes sense, as Python names systems; empty: everywhere."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of this host."""

    id: str
    severity: Severity
    verdict: Verdict

    @property
    def is_grave(self) -> bool:
        """Whether the exit code shall say so."""
        return self.verdict.state is State.FAILED and self.severity is not Severity.INFO

    def to_json(self) -> dict[str, str]:
        return {
            "id": self.id,
            "state": self.verdict.state,
            "severity": self.severity,
            "detail": self.verdict.detail,
            "fix": self.verdict.fix,
        }
