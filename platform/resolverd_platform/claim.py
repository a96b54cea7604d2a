"""One daemon at a time programs a host's resolver, whatever state directory, device and address each was given.

Two would take each other's domains for those of a VPN, and withdraw. The claim is an abstract Unix socket (unix(7)): it
belongs to the network namespace, as the resolver's links do, and is gone with the process, also after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator

from resolverd.errors import HostError

log = logging.getLogger(__name__)

NAME = "\0resolverd.host"
_BACKLOG = 4096
"""Nobody accepts: who connects only wants to know whose it is."""
PATIENCE = 1.0
"""Seconds for connecting, and for whoever has just ended, or begun, to have done so."""
_PAUSE = 0.02
_PEER = struct.Struct("3i")


@contextlib.contextmanager
def claimed(name: str = NAME) -> Iterator[None]:
    """Be the one until the block ends. HostError when another is. Only Linux has such sockets."""
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux":
            _claim(stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)), name)
        yield


def _claim(one: socket.socket, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _taken(one, name):
        holder = _holder(name)
        if holder is None and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            continue
        # Anybody may take the name: a user who can program nothing must not keep root from doing so.
        if holder is None:
            log.warning("somebody who does not say who holds the claim of this host's resolver; passed over")
            return
        pid, user = holder
        if user in (0, os.geteuid()):
            why = f"process {pid} programs this host's resolver already"
            raise HostError("another resolverd", why, "resolverd down, with its --state-dir; or --backend none")
        log.warning("process %d of user %d holds the claim of this host's resolver; passed over", pid, user)
        return


def _taken(one: socket.socket, name: str) -> bool:
    """Whether the name is ours now. Raises HostError."""
    try:
        one.bind(name)
        one.listen(_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HostError("claim of this host's resolver", str(error.strerror)) from error
        return False
    return True


def _holder(name: str) -> tuple[int, int] | None:
    """Process and user; None when that cannot be told: it has just gone, or does not listen, yet or ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(name)
            pid, user, _ = _PEER.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        except OSError:
            return None
    return pid, user
