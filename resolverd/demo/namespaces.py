"""The Linux calls behind private namespaces that Python 3.11 does not have yet.

Sources: unshare(2), setns(2), prctl(2). Every function raises OSError with the kernel's reason.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MOUNT, UTS, IPC, PID, NET = 0x0002_0000, 0x0400_0000, 0x0800_0000, 0x2000_0000, 0x4000_0000
"""CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET of <linux/sched.h>."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process (for PID: its children to come) into new namespaces."""
    _check(_libc.unshare(ctypes.c_int(flags)))


def fork_into_pid_namespace() -> int:
    """Fork a child that is process 1 of a new PID namespace; returns as fork does. Later forks are ordinary again."""
    with Path("/proc/self/ns/pid").open("rb") as own:
        unshare(PID)
        child = os.fork()
        if child != 0:
            _check(_libc.setns(ctypes.c_int(own.fileno()), ctypes.c_int(PID)))
        return child


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send ``signal_number`` to this process when its parent ends, kill -9 included."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal_number)))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
