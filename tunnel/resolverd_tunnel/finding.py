"""From an address and port to an open stream: which pods, and the transport of the moment."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from resolverd.cluster.access import Access
from resolverd.cluster.affinity import Affinity, Session
from resolverd.cluster.target import Refusal, Target
from resolverd.errors import one_line

from .gate import NotYetError
from .known import Known
from .packet import Opening
from .refusals import Refusals
from .transport import Make, NoWayError, Stream, Transport, TransportError

log = logging.getLogger(__name__)

TRIES = 3
"""Pods tried for one connection."""
TRY_LIMIT = 20.0
"""Seconds for all of them; clients give up after a minute or two."""
MOST_REACHED = 16384
"""Connections whose pod is remembered: more than there can be at a time, and those that have ended go first."""


class StreamFinder:
    """Opens streams by what is known of the cluster now."""

    def __init__(self, known: Known, make: Make, on_unauthorized: Callable[[], None]) -> None:
        self._known = known
        self._make = make
        self._on_unauthorized = on_unauthorized
        self._access: Access | None = None
        self._told = False
        self._unusable = ""
        self._transport: Transport | None = None
        self._old: dict[asyncio.Task[None], Transport] = {}
        self._turn = itertools.count()
        self._affinity = Affinity()
        self.refusals = Refusals()
        self._reached: dict[Opening, Target] = {}

    @property
    def state(self) -> str:
        """One or a few words for ``status``."""
        if self._transport is None:
            return self._unusable or ("no access to the API server" if self._told else "starting")
        return self._transport.trouble or "ready"

    def reach(self, access: Access | None) -> None:
        """Use ``access`` from now on; streams that are open stay."""
        if self._told and access == self._access:
            return
        self._told, self._access = True, access
        old, self._transport = self._transport, None
        if old is not None:
            retiring = asyncio.create_task(old.retire())
            self._old[retiring] = old
            retiring.add_done_callback(self._old.pop)
        self._unusable = ""
        if access is None:
            return
        try:
            self._transport = self._make(access, self._on_unauthorized)
        except (OSError, ValueError) as error:  # certificates that OpenSSL does not take
            self._unusable = one_line(f"the credentials cannot be used: {error}")
            log.error("%s", self._unusable)

    def hurry(self) -> None:
        """The host has woken up, or changed networks."""
        for transport in (*self._old.values(), *([self._transport] if self._transport else [])):
            transport.hurry()

    def reached(self, ends: Opening) -> Target | None:
        """Which pod answers there; None when that is so long ago that it is not known any more."""
        return self._reached.get(ends)

    async def open(self, ends: Opening) -> Stream:
        """A stream to a pod behind ``ends``. ConnectionRefusedError, TransportError, NotYetError."""
        try:
            stream = await self._open(ends)
        except (ConnectionRefusedError, TransportError) as error:
            self.refusals.note(str(ends), str(error))
            raise
        self.refusals.forget(str(ends))
        return stream

    async def _open(self, ends: Opening) -> Stream:
        await self._known.wait_for(ends.address)
        service = self._known.affinity(ends.address)
        session = Session(service.key, ends.port, ends.client) if service else None
        now = asyncio.get_running_loop().time()
        found = self._known.find(
            ends.address,
            ends.port,
            turn=session.turn if session else next(self._turn),
            first=self._affinity.chosen(session, now) if session else None,
        )
        if isinstance(found, Refusal):
            if found.known:
                raise ConnectionRefusedError(found.reason)
            raise TransportError(str(ends), found.reason)
        target, stream = await self._try(ends, found)
        self._reached.pop(ends, None)
        self._reached[ends] = target
        if len(self._reached) > MOST_REACHED:
            del self._reached[next(iter(self._reached))]
        if service and session:
            self._affinity.keep(session, target, now + service.affinity_seconds)
        return stream

    async def _try(self, ends: Opening, found: tuple[Target, ...]) -> tuple[Target, Stream]:
        """The first of ``found`` that accepts, and the stream to it."""
        transport = self._transport
        if transport is None:
            if not self._told:
                raise NotYetError("the API server is not known yet")
            raise TransportError(str(ends), "there is no access to the API server")
        last: ConnectionRefusedError | TransportError | None = None
        deadline = asyncio.get_running_loop().time() + TRY_LIMIT
        for target in found[:TRIES]:
            try:
                return target, await transport.open(target)
            except NoWayError:
                raise
            except (ConnectionRefusedError, TransportError) as error:
                log.debug("%s: %s: %s", ends, target, error)
                last = error
            if asyncio.get_running_loop().time() > deadline:
                break
        raise last or TransportError(str(ends), "there is no pod to try")

    async def close(self) -> None:
        """Let go of every transport."""
        for transport in (*self._old.values(), *([self._transport] if self._transport else [])):
            await transport.close()
        if self._old:
            await asyncio.wait(self._old)
