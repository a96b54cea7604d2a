"""Trying a name and a port as any program on this host would."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from resolverd.errors import ResolverdError
from resolverd.options import split_endpoint

PAUSE = 0.2
"""Seconds between two tries."""


def resolve(name: str, server: str | None, deadline: float) -> str:
    """The address of ``name``, by the host's own resolver or (``ADDR:PORT`` given) asked of ``server``.

    Tries until ``deadline`` (of ``time.monotonic``); raises ResolverdError then.
    """
    why = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return _ask(name, server) if server else _getaddrinfo(name, left)
        except OSError as error:
            why = str(error.strerror or error)
        except ResolverdError as error:
            why = error.why
        time.sleep(PAUSE)
    fix = "see resolverd status; is /etc/resolv.conf the resolver's that was told?" if server is None else ""
    raise ResolverdError(name, f"does not resolve: {why}", fix)


def connect(address: str, port: int, deadline: float) -> None:
    """Open and close a TCP connection; raises ResolverdError when none could be opened until ``deadline``."""
    why = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((address, port), timeout=left).close()
            return
        except OSError as error:
            why = str(error.strerror or error)
        time.sleep(PAUSE)
    fix = "may you port-forward? kubectl auth can-i create pods/portforward"
    raise ResolverdError(f"{address}:{port}", f"cannot be reached: {why}", fix)


def _getaddrinfo(name: str, longest: float) -> str:
    """getaddrinfo knows no deadline; a stuck one is left behind in a thread that keeps nothing alive."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(min(longest, 10.0))
    if not found:
        raise TimeoutError("the resolver gives no answer")
    if isinstance(found[0], OSError):
        raise found[0]
    return str(found[0][0][4][0])


def _ask(name: str, server: str) -> str:
    from resolverd.dns import client

    host, port = split_endpoint(server)
    answer = client.query(host, port, name, "A")
    return str(answer.short()[0])
