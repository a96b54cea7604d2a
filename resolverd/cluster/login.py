"""Credentials, loaded and renewed while everything else goes on: before they end, when they are refused, when the
kubeconfig changes. A refused credential never becomes a hot loop: its plugin may open a browser each time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resolverd.cluster import kubeconfig
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient
from resolverd.cluster.kubeconfig import Invoker, KubeContext
from resolverd.errors import ResolverdError
from resolverd.settings import ClusterSettings

log = logging.getLogger(__name__)

REFRESH_EARLY = 60.0
"""Seconds before their end at which credentials are renewed."""
REFRESH_PAUSE = 15.0
"""Shortest time between two renewals, in seconds, doubled with each that did not help."""
CHANGE_PAUSE = 1.0
"""Shortest time between two readings of a kubeconfig that changes: a plugin may write to it whenever it is asked."""
LONGEST_PAUSE = 600.0
"""Seconds between two renewals that nobody asked for."""


@dataclass(slots=True, eq=False)
class Login:
    """The context that is followed, and its credentials as they are now."""

    settings: ClusterSettings
    who: Invoker | None
    scratch: Path
    """A folder for temporary folders."""
    clock: Callable[[], float] = time.time
    """Unix time, in seconds."""
    context: KubeContext | None = None
    error: ResolverdError | None = None
    """Why the last renewal failed."""
    _fruitless: int = 0
    """Renewals since the credentials were last accepted."""
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _renewed: float = 0.0

    async def load(self) -> KubeContext:
        """Read the kubeconfig anew: the context that is pinned, else its current one. Raises ResolverdError.

        After a failure the credentials that were there stay in force.
        """
        self._wanted.clear()
        self._renewed = time.monotonic()
        try:
            found = await kubeconfig.load(self.settings.kubeconfig, self._pinned(), self.scratch, self.who)
            await _check(found.access)
            self.context = found
        except ResolverdError as error:
            self.error = error
            raise
        self.error = None
        return self.context

    def _pinned(self) -> str:
        """A renewal keeps to its context; a file that changed may name another."""
        if self.settings.context or self._changed.is_set() or self.context is None:
            self._changed.clear()
            return self.settings.context
        return self.context.name

    def refused(self) -> None:
        """The API server does not accept the credentials."""
        self._wanted.set()

    def accepted(self) -> None:
        """The API server accepts them."""
        self._fruitless = 0

    def kubeconfig_changed(self) -> None:
        """The files are not what they were: read them at once."""
        self._changed.set()
        self._wanted.set()

    async def due(self) -> None:
        """Wait until the credentials have to be loaded anew."""
        expires = self.context.expires if self.context else None
        rest = max(1.0, expires - REFRESH_EARLY - self.clock()) if expires else None
        await _happens(self._wanted, rest)
        pause = min(REFRESH_PAUSE * 2**self._fruitless, LONGEST_PAUSE)
        self._fruitless = min(self._fruitless + 1, 10)
        await _happens(self._changed, max(0.0, self._renewed + pause - time.monotonic()))
        await asyncio.sleep(max(0.0, self._renewed + CHANGE_PAUSE - time.monotonic()))


async def _check(access: Access) -> None:
    """Raises ClusterError when its certificates or its address cannot be used at all."""
    async with ApiClient(access):
        return


async def _happens(event: asyncio.Event, longest: float | None) -> None:
    """Wait for ``event``, for ``longest`` seconds at most. Not by wait_for, which may lose a cancellation."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest):
            await event.wait()
