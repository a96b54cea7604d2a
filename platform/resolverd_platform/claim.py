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
from collections.abc import Iterator

from resolverd.errors import HostError

log = logging.getLogger(__name__)

NAME = "\0resolverd.host"
_BACKLOG = 4096
"""Nobody accepts: who connects only wants to know whose it is."""
_PATIENCE = 1.0
"""Seconds for connecting."""
_PEER = struct.Struct("3i")


@contextlib.contextmanager
def claimed(name: str = NAME) -> Iterator[None]:
    """Be the one until the block ends. HostError when another is. Only Linux has such sockets."""
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux":
            _claim(stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)), name)
        yield


def _claim(one: socket.socket, name: str) -> None:
    try:
        one.bind(name)
        one.listen(_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HostError("claim of this host's resolver", str(error.strerror)) from error
    else:
        return
    pid, user = _holder(name)
    if user in (0, os.geteuid()):
        why = f"process {pid} programs this host's resolver already"
        raise HostError("another resolverd", why, "resolverd down, with its --state-dir; or --backend none")
    # Anybody may take the name: a user who can program nothing must not keep root from doing so.
    log.warning("process %d of user %d holds the claim of this host's resolver; passed over", pid, user)


def _holder(name: str) -> tuple[int, int]:
    """Process and user; user 0 and process 0 when that cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(name)
            pid, user, _ = _PEER.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        except OSError:  # it has just gone, or not yet begun to listen
            return 0, 0
    return pid, user
