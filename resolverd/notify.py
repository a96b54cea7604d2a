"""What the service manager is told: ready, reloading, stopping, a line of status, and that the daemon lives.

The protocol is sd_notify(3): datagrams of ``NAME=VALUE`` lines to the Unix socket ``$NOTIFY_SOCKET``. Without one
nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from resolverd.errors import one_line

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two lines of status; fewer where the watchdog wants to hear from us sooner."""
WHILE_DEGRADED = 1.0
"""Seconds between them while something is wrong, or on its way."""
MAX_STATUS = 200
"""Characters of a line of status."""

Status = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Whoever started the daemon and listens."""

    address: str = ""
    """Path of its socket, or ``@`` and an abstract name; empty: nobody listens."""
    watchdog: float = 0.0
    """Seconds after which it takes a silent daemon for dead; 0: never."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """What the environment says; taken out of it, since it is not meant for the processes we start."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_meant = process in ("", str(os.getpid())) and period.isdecimal()
        return cls(address if address[:1] in ("/", "@") else "", int(period) / 1e6 if is_meant else 0.0)

    @property
    def interval(self) -> float:
        """Seconds between two messages: half the watchdog's period at most, as sd_watchdog_enabled(3) advises."""
        return min(INTERVAL, self.watchdog / 2) if self.watchdog else INTERVAL

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self, status: str) -> None:
        """The daemon answers, and this is how it is."""
        self._send(f"STATUS={one_line(status)[:MAX_STATUS]}", *(("WATCHDOG=1",) if self.watchdog else ()))

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that settings are read while the block runs; a service manager waits for the READY that follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address[0] == "@" else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), address)
            except OSError as error:  # it may be busy or restarting; the next message is due soon
                log.debug("service manager: %s", error.strerror)


@contextlib.asynccontextmanager
async def told(manager: ServiceManager, status: Status, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Tell ``manager`` that the daemon is ready, how it is as long as the block runs, and that it stops.

    ``status`` makes the status document; ``stopping`` is set when the daemon begins to stop.
    """
    manager.ready()
    telling = asyncio.create_task(_tell(manager, status, stopping))
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        if not stopping.is_set():
            manager.stopping()


async def _tell(manager: ServiceManager, status: Status, stopping: asyncio.Event) -> None:
    while manager.address:
        document = await status()
        manager.alive(summary(document))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(manager.interval if document["state"] == "healthy" else WHILE_DEGRADED):
                await stopping.wait()
                manager.stopping()
                return


def summary(document: dict[str, Any]) -> str:
    """The status document in a line, for ``systemctl status``."""
    cluster = document["cluster"]
    failing = [f"{check['id']}: {check['detail']}" for check in document["checks"] if not check["ok"]]
    known = f"{cluster['services']} services of {cluster['context'] or 'no cluster yet'}"
    return f"{document['state']}; {'; '.join(failing) or known}"
