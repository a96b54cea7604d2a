"""Errors a user can act on: what failed, why, what to do, and the exit code of the contract."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    DEGRADED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NO_PERMISSION = 4
    CLUSTER = 5
    HOST = 6


class ResolverdError(Exception):
    """One line for the user: ``WHAT: WHY (FIX)``.

    Cluster data and system messages end up in ``why``: control characters are replaced, so that a
    hostile name cannot forge a second line or move the cursor of a terminal.
    """

    code: ExitCode = ExitCode.DEGRADED

    def __init__(self, what: str, why: str, fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = one_line(what)
        self.why = one_line(why)
        self.fix = one_line(fix)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f" ({self.fix})" if self.fix else "")

    def __reduce__(self) -> tuple[type[ResolverdError], tuple[str, str, str]]:
        """Errors travel between our processes."""
        return type(self), (self.what, self.why, self.fix)


class UsageError(ResolverdError):
    """Bad usage or bad configuration."""

    code = ExitCode.USAGE


class NotRunningError(ResolverdError):
    """No daemon answers on the control socket."""

    code = ExitCode.NOT_RUNNING


class NoPermissionError(ResolverdError):
    """The operating system refuses: not root, or a missing capability."""

    code = ExitCode.NO_PERMISSION


class ClusterError(ResolverdError):
    """The cluster cannot be reached, or does not authorise us."""

    code = ExitCode.CLUSTER


class HostError(ResolverdError):
    """This host cannot do it: no TUN, no resolver to program, port in use."""

    code = ExitCode.HOST


def one_line(text: str) -> str:
    """``text`` without control characters, on one line.

    Unicode's line separators and bidirectional overrides count: they too can make a terminal lie.
    """
    return "".join(c if c.isprintable() else " " for c in text.strip())


def first_of(errors: BaseExceptionGroup) -> BaseException:
    """The first error a user can act on, from however deep a group; the first of all when it has none."""
    error: BaseException = errors.subgroup(ResolverdError) or errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
