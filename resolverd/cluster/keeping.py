"""Keeping the Snapshot on disk, for a daemon that is started while the cluster is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from resolverd.cluster.access import Access
from resolverd.cluster.kept import Found, Kept
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.cluster.scoping import Covered
from resolverd.cluster.snapshot import Snapshot

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Shortest time between two writings of the Snapshot to disk, in seconds."""
FIRST = 2.0
"""Seconds after the first lists until the Snapshot is first written: then nobody waits for us."""


class Keeping:
    """In ``folder``; ``clock`` gives Unix time in seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    async def restore(self, access: Access) -> Found | None:
        """What was known of the cluster behind ``access``; None: nothing that may be served."""
        return await asyncio.to_thread(Kept.of(self._folder, access).read, self._clock())

    async def run(self, newest: Callable[[], tuple[KubeContext, Snapshot, Covered] | None]) -> None:
        """Write now and then what ``newest`` gives, if it is another than before; None: it is not as the cluster is."""
        written: tuple[Kept, Snapshot] | None = None
        await asyncio.sleep(FIRST)
        while True:
            if (now := newest()) is not None:
                context, snapshot, covered = now
                kept = Kept.of(self._folder, context.access)
                if written is None or kept != written[0] or snapshot is not written[1]:
                    written = kept, snapshot
                    try:
                        await asyncio.to_thread(kept.write, snapshot, self._clock(), covered)
                    except OSError as error:
                        log.warning("the state of the cluster is not kept: %s", error.strerror)
            await asyncio.sleep(PAUSE)
