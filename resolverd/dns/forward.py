"""Questions that others answer: from the cache, or asked once however many clients want to know.

A reply comes from an upstream, from what was kept of an earlier one, or says why there is none; always in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .answer import ExtendedError
from .cache import Cache, Kept
from .claims import Elsewhere
from .failures import Failures
from .flight import Flight
from .outward import Key, Outcome, Wanted
from .probes import Probes
from .rules import DnsConfig
from .upstream import DnsServer, Upstream

MAX_FLIGHTS = 500
"""Different questions under way: each takes a descriptor or two."""
MAX_WAITING = 5000
"""Clients that wait for an answer."""
RECHECK = 30.0
"""Seconds during which nobody is asked for what was just answered from stale data (RFC 8767 5)."""
SHARE = 0.9
"""Of the lookup timeout: the answer has to be written, too."""
STALE = ExtendedError(3, "no upstream answers; this is what one said before")
BUSY = ExtendedError(22, "too many questions under way")
NOBODY = ExtendedError(22, "there is nobody to ask")


Callback = Callable[[Outcome], None]
Place = tuple[int, Key]
"""A question, and after how many changes of the upstreams it came: nobody waits for those that were asked before."""


@dataclass(slots=True)
class Counts:
    """For ``status``."""

    asked: int = 0
    cached: int = 0
    stale: int = 0
    failed: int = 0

    def to_json(self) -> Mapping[str, int]:
        return {"asked": self.asked, "cached": self.cached, "stale": self.stale, "failed": self.failed}


@dataclass(slots=True, eq=False)
class Forwarder:
    """Asks others. Belongs to one event loop."""

    cluster: Sequence[Upstream] = ()
    """The cluster's DNS service, where it can be asked."""
    probes: Probes = field(default_factory=Probes)
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    cache: Cache = field(default_factory=Cache)
    failures: Failures = field(default_factory=Failures)
    counts: Counts = field(default_factory=Counts)
    _upstreams: Sequence[Upstream] = ()
    _config: DnsConfig = field(default_factory=DnsConfig)
    _loops: set[str] = field(default_factory=set)
    _changes: int = 0
    """Of the upstreams."""
    _flights: dict[Place, Flight] = field(default_factory=dict)
    _waiting: dict[Place, list[Callback]] = field(default_factory=dict)
    _crowd: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def configure(self, config: DnsConfig) -> None:
        """Ask by ``config`` from now on. Whom other upstreams' answers came from is no longer known: they go.

        So do those of another cluster's DNS service, which may have had the same address.
        """
        before = self._config
        if (config.upstreams, config.mark, config.cluster) != (before.upstreams, before.mark, before.cluster):
            self._upstreams = tuple(DnsServer(server, config.mark) for server in config.upstreams)
            self._changes += 1
            self._loops.clear()
            self.cache.clear()
            self.failures.clear()
        self._config = config

    def ask(self, wanted: Wanted, callback: Callback) -> None:
        """Have ``callback`` called once: at once, or within the lookup timeout."""
        key, now = wanted.key, self.clock()
        place = self._changes, key
        kept = self.cache.get(key, now)
        if kept is not None and (kept.is_fresh(now) or now < kept.ask_again):
            callback(self._from(kept, now))
        elif (failed := self.failures.get(key, now)) is not None:
            callback(self._failed(failed))
        elif self._crowd >= MAX_WAITING or (place not in self._flights and len(self._flights) >= MAX_FLIGHTS):
            callback(self._failed(Outcome(error=BUSY)))
        elif place in self._flights:
            self._wait(place, callback)
            self._flights[place].probe()
        else:
            self._wait(place, callback)
            self._set_out(place, wanted)

    async def close(self) -> None:
        """Give up every question under way; nobody is told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wait(self, place: Place, callback: Callback) -> None:
        self._waiting.setdefault(place, []).append(callback)
        self._crowd += 1

    def _set_out(self, place: Place, wanted: Wanted) -> None:
        upstreams = self._upstreams if wanted.elsewhere is Elsewhere.UPSTREAM else self.cluster
        flight = Flight(wanted.name, wanted.query(), wanted.tcp, upstreams, self.probes, self._loops)
        if not upstreams:
            flight.error = NOBODY
        self._flights[place] = flight
        task = asyncio.get_running_loop().create_task(self._fly(place, flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, place: Place, flight: Flight) -> None:
        try:
            await flight.run(self._config.lookup_timeout * SHARE)
        finally:
            del self._flights[place]
            callbacks = self._waiting.pop(place)
            self._crowd -= len(callbacks)
        self.counts.asked += 1
        outcome = self._outcome(place, flight, self.clock())
        for callback in callbacks:
            callback(outcome)

    def _outcome(self, place: Place, flight: Flight, now: float) -> Outcome:
        """What comes of ``flight``; kept for others, if it comes of the upstreams that are asked now."""
        changes, key = place
        is_current = changes == self._changes
        if flight.is_good and flight.reply is not None:
            if is_current:
                self._prefer(flight.answered)
                self.cache.put(key, flight.reply, now)
                self.failures.forget(key)
            return Outcome(flight.reply, since=now if is_current and flight.reply.lifetime else None)
        kept = self.cache.get(key, now)
        if kept is not None:
            kept.ask_again = now + RECHECK
            return self._from(kept, now)
        failed = Outcome(flight.reply, error=flight.error)
        if is_current:
            self.failures.put(key, failed, now)
        return self._failed(failed)

    def _prefer(self, answered: Upstream | None) -> None:
        """Ask first next time who answered now: nobody waits twice for a silent one."""
        if answered in self._upstreams and answered is not None:
            self._upstreams = (answered, *(each for each in self._upstreams if each is not answered))

    def _from(self, kept: Kept, now: float) -> Outcome:
        if kept.is_fresh(now):
            self.counts.cached += 1
            return Outcome(kept.reply, kept.age(now), since=kept.since)
        self.counts.stale += 1
        return Outcome(kept.reply, kept.age(now), STALE)

    def _failed(self, outcome: Outcome) -> Outcome:
        self.counts.failed += 1
        return outcome
