"""Watching that public names still resolve with us in place, and taking everything back when they do not.

Whether we were the cause is proven afterwards: a name that does not resolve without us either acquits us, and the plan
is put in force again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from resolverd.errors import ResolverdError
from resolverd.host import Server
from resolverd.host_lookup import addresses_of
from resolverd.reconcile import Reconciler
from resolverd.withdrawal import NAMES, Evidence, Said, Suspicion, covering

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds the host's resolver has for an answer."""
DIRECT_PATIENCE = 1.0
"""Seconds each of the host's name servers has, twice."""
MOST_SERVERS = 2
"""Name servers that are asked."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """All in seconds."""

    every: float = 60.0
    """Between two looks while nothing happens."""
    changed: float = 10.0
    """Shortest time between two looks because our settings changed."""
    soon: float = 1.0
    """Until the look after a change or a failure, and after everything was taken back."""
    acquitted: tuple[float, ...] = (600.0, 3600.0, 86400.0)
    """In which nothing is suspected of us, since it did not go away with us; after each acquittal in a row."""
    again: tuple[float, ...] = (60.0, 300.0, 1800.0)
    """Until the plan is tried again, after each withdrawal in a row."""


class Asking(Protocol):
    """How names are looked up; neither call raises, or takes longer than a few seconds."""

    async def through(self, name: str) -> Said:
        """By the host's resolver, as any program does."""
        ...

    async def direct(self, name: str, servers: Iterable[Server], mark: int) -> Said:
        """Of the host's own name servers, past us: with the socket mark of our own questions, unless it is 0."""
        ...


class HostAsking:
    """The real thing."""

    async def through(self, name: str) -> Said:
        who = "the host's resolver"
        try:
            found = await asyncio.to_thread(addresses_of, name, PATIENCE, socket.AF_INET)
        except OSError as error:
            return Said(who, why=str(error.strerror or error))
        return Said(who, address=found[0])

    async def direct(self, name: str, servers: Iterable[Server], mark: int) -> Said:
        said = Said("no name server")
        for server in list(servers)[:MOST_SERVERS]:
            said = await asyncio.to_thread(_ask, name, server, mark)
            if said.address:
                break
        return said


def _nth(pauses: tuple[float, ...], number: int) -> float:
    """The ``number``-th, from 0; the last one again and again."""
    return pauses[min(number, len(pauses) - 1)]


async def _until(condition: Callable[[], bool], step: float) -> None:
    """Look every ``step`` seconds whether ``condition`` holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(step)


def _ask(name: str, server: Server, mark: int) -> Said:
    from resolverd.dns import client
    from resolverd.dns.records import Type

    who = f"name server {server.address}"
    try:
        answer = client.query_marked((str(server.address), server.port), name, mark, DIRECT_PATIENCE)
    except ResolverdError as error:
        return Said(who, why=error.why)
    addresses = [str(record.rdata) for record in answer.records if record.rtype == Type.A]
    return Said(who, address=addresses[0]) if addresses else Said(who, why=answer.rcode)


class Lookout:
    """Asks now and then; ``on_verdict`` is called when everything is to be taken back, or put in force again."""

    def __init__(
        self,
        reconciler: Reconciler,
        servers: Callable[[], Iterable[Server]],
        on_verdict: Callable[[], None],
        *,
        asking: Asking | None = None,
        pauses: Pauses | None = None,
        names: tuple[str, ...] = NAMES,
    ) -> None:
        self.evidence: Evidence | None = None
        """Why nothing of ours may be in force; None: it may."""
        self._reconciler = reconciler
        self._servers = servers
        self._on_verdict = on_verdict
        self._asking: Asking = HostAsking() if asking is None else asking
        self._pauses = Pauses() if pauses is None else pauses
        self._suspicion = Suspicion(names)
        self._withdrawals = 0
        self._acquittals = 0
        self._forgiven = asyncio.Event()

    def forgive(self) -> None:
        """Start anew: the user has changed something. The caller makes its plan again."""
        self.evidence = None
        self._withdrawals = self._acquittals = 0
        self._forgiven.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._next_look()
            evidence = await self._look()
            if evidence is not None:
                await self._withdraw(evidence)

    async def _next_look(self) -> None:
        """Wait until something of ours is in force and it is time: soon after a change, else now and then."""
        pauses, seen, waited = self._pauses, self._reconciler.applied.dns, 0.0
        if not self._suspicion.pending and seen:
            while waited < pauses.every and not (waited >= pauses.changed and self._reconciler.applied.dns != seen):
                await asyncio.sleep(pauses.soon)
                waited += pauses.soon
        await asyncio.sleep(pauses.soon)
        await _until(lambda: self._reconciler.in_force.is_set() and bool(self._reconciler.applied.dns), pauses.soon)

    async def _look(self) -> Evidence | None:
        name, ours = self._suspicion.name, self._reconciler.applied.dns
        through = await self._asking.through(name)
        mark = self._reconciler.capabilities.mark
        direct = None if through.address else await self._asking.direct(name, self._servers(), mark)
        if direct is not None and direct.address:
            if not await self._resolver_is_there():
                direct = None  # the resolver is away or frozen, and that is not our doing
            log.warning("%s does not resolve: %s, %s", name, through, direct or "and the resolver itself is away")
        if not self._suspicion.judge(through, direct) or direct is None:
            if through.address:
                self._withdrawals = self._acquittals = 0
            return None
        now = time.time()
        again = now + _nth(self._pauses.again, self._withdrawals)
        return Evidence(now, name, through, direct, covering(ours, name), again)

    async def _resolver_is_there(self) -> bool:
        try:
            await self._reconciler.look()
        except ResolverdError:
            return False
        return self._reconciler.in_force.is_set()

    async def _withdraw(self, evidence: Evidence) -> None:
        """Take everything back, and put it in force again: at once if that was no help, else after a while."""
        self._forgiven.clear()
        self.evidence = evidence
        self._withdrawals += 1
        log.error("everything is taken back: %s", evidence)
        self._on_verdict()
        await _until(lambda: not self._reconciler.applied.dns or self._forgiven.is_set(), self._pauses.soon / 10)
        await asyncio.sleep(self._pauses.soon)
        without = await self._asking.through(evidence.name)
        if not without.address and not self._forgiven.is_set():
            log.warning("%s does not resolve without us either: the plan is put in force again", evidence.name)
            self._restore()
            self._withdrawals -= 1
            self._acquittals += 1
            await self._unless_forgiven(_nth(self._pauses.acquitted, self._acquittals - 1))
            return
        await self._unless_forgiven(evidence.again - time.time())
        if not self._forgiven.is_set():
            log.info("the plan is tried again")
            self._restore()

    async def _unless_forgiven(self, seconds: float) -> None:
        # Not wait_for, here and elsewhere: before Python 3.12 it may lose a cancellation that comes with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._forgiven.wait()

    def _restore(self) -> None:
        self.evidence = None
        self._on_verdict()
