"""One look at the cluster, for commands that plan without a daemon: what it has is listed, and nothing is followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import invoker
from resolverd.cluster.snapshot import Snapshot
from resolverd.errors import ClusterError, ResolverdError, first_of
from resolverd.names import Address, Network
from resolverd.settings import ClusterSettings

LONGEST = 10.0
"""Seconds for the first lists; credentials may take longer."""
FACTS = 2.0
"""Seconds more for what the cluster says of its ranges and its domain."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was seen."""

    snapshot: Snapshot
    context: str = ""
    namespace: str = ""
    """The context's."""
    ranges: tuple[Network, ...] = ()
    sources: tuple[tuple[Network, str], ...] = ()
    api_servers: tuple[Address, ...] = ()
    domain: str = ""
    trouble: str = ""
    """Why nothing was seen."""


async def survey(settings: ClusterSettings) -> Surveyed:
    """List what the plan needs. The cluster that cannot be reached is no error: it is told."""
    logging.getLogger("resolverd").addHandler(logging.NullHandler())  # what goes wrong is in `trouble`
    facts = asyncio.Event()
    with _scratch() as folder:
        follower = Follower(settings, invoker(), folder, lambda _, __: _look(follower, facts), lambda _: None)
        following = asyncio.create_task(follower.run())
        ready = asyncio.create_task(_known(follower, facts))
        try:
            done, _ = await asyncio.wait({following, ready}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
            error = _reason(follower, following if following in done else None)
        finally:
            for task in (following, ready):
                task.cancel()
            await asyncio.gather(following, ready, return_exceptions=True)
    context = follower.context
    return Surveyed(
        follower.snapshot,
        context.name if context else settings.context,
        context.namespace if context else "",
        follower.facts.ranges,
        follower.facts.sources,
        follower.servers.addresses,
        follower.facts.domain,
        "" if ready in done and not ready.cancelled() else str(error),
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="resolverd-plan-") as folder:
        Path(folder).chmod(0o711)  # a plugin for credentials runs as the user who called sudo
        yield Path(folder)


def _look(follower: Follower, facts: asyncio.Event) -> None:
    if follower.facts.knows_domain:
        facts.set()


async def _known(follower: Follower, facts: asyncio.Event) -> None:
    await follower.synced.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FACTS):
            await facts.wait()


def _reason(follower: Follower, ended: asyncio.Task[None] | None) -> ResolverdError:
    """Why the lists did not come."""
    error = ended.exception() if ended else None
    if isinstance(error, BaseExceptionGroup):
        error = first_of(error)
    if isinstance(error, ResolverdError):
        return error
    if error is not None:
        raise error
    return next(iter(follower.trouble.values()), ClusterError("cluster", f"no answer in {LONGEST:.0f} s"))
