"""Waiting for a child as init and sudo do: reap, pass signals on, hand the terminal back.

A signal the terminal makes (Ctrl-C) reaches the whole foreground by itself; one that somebody sent to the waiting
process alone is passed on to the child.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

PASSED_ON = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
_WATCHED = PASSED_ON | {signal.SIGCHLD}


@contextmanager
def signals_held() -> Iterator[None]:
    """Inside the block signals wait for :func:`wait_for`. Enter it before the child is started."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminal_handed_back() -> Iterator[None]:
    """Give the terminal, if there is one, back to whom it belonged: a shell inside the block may die holding it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no terminal controls this session
        yield
        return
    try:
        owner = os.tcgetpgrp(terminal)
        yield
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        if owner == os.getpgrp() != os.tcgetpgrp(terminal):
            os.tcsetpgrp(terminal, owner)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        os.close(terminal)


def wait_for(child: int, grace: float | None = None) -> int:
    """The exit code of ``child`` (128 + number if a signal ended it), reaping every other child meanwhile.

    grace: seconds between a SIGTERM or SIGHUP that was passed on and SIGKILL; None: for ever.
    """
    kill_at = float("inf")
    while (status := _reap(child)) is None:
        seconds = min(max(kill_at - time.monotonic(), 0), 3600)
        received = signal.sigtimedwait(_WATCHED, seconds)
        if received is None:
            if time.monotonic() >= kill_at:
                os.kill(child, signal.SIGKILL)
                kill_at = float("inf")
            continue
        if received.si_signo == signal.SIGCHLD or received.si_code > 0:  # si_code > 0: the kernel's, not kill(2)
            continue
        os.kill(child, received.si_signo)
        if grace is not None and received.si_signo in (signal.SIGTERM, signal.SIGHUP):
            kill_at = min(kill_at, time.monotonic() + grace)
    return status


def _reap(child: int) -> int | None:
    """Reap whatever has ended; the exit code of ``child`` once it has."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
