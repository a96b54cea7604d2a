"""One question under way: asked of one upstream after the other until somebody answers or the time is up.

Whoever has not answered after a while still may: the next one is asked besides, and the first good reply counts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .answer import ExtendedError
from .foreign import Foreign, read
from .message import MalformedMessageError
from .probes import Probes
from .records import Name, Rcode
from .upstream import Upstream

log = logging.getLogger(__name__)

ROUNDS = 2
"""How often each upstream is asked."""
MAX_TRIES = 6
PATIENCE = 0.2
"""Share of the whole time after which the next upstream is asked besides."""
GOOD = (Rcode.NOERROR, Rcode.NXDOMAIN)
NO_ANSWER = ExtendedError(22, "no upstream answered in time")
NETWORK_ERROR = ExtendedError(23, "no upstream can be reached")
LOOP = ExtendedError(22, "the upstreams ask us in turn")


@dataclass(slots=True, eq=False)
class Flight:
    """A question, and who is asked."""

    name: Name
    query: bytes
    """The whole message that is sent; its id does not count."""
    tcp: bool
    upstreams: Sequence[Upstream]
    probes: Probes
    loops: set[str]
    """Upstreams that were found to ask us: logged once each."""
    reply: Foreign | None = None
    """A reply that is good, or the best there was."""
    error: ExtendedError = NO_ANSWER
    """Why there is no good reply."""
    answered: Upstream | None = None
    """Whose reply is the good one."""
    _tries: dict[asyncio.Task[Foreign | None], Upstream] = field(default_factory=dict)
    _looping: set[Upstream] = field(default_factory=set)
    _probing: dict[Upstream, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.reply is not None and self.reply.rcode in GOOD

    async def run(self, longest: float) -> None:
        """Ask until there is a good reply, nobody is left, or ``longest`` seconds are over."""
        try:
            async with asyncio.timeout(longest):
                await self._ask_all(PATIENCE * longest)
        except TimeoutError:
            if self.reply is None:
                self.error = NO_ANSWER
        finally:
            # Forgotten before they have ended: nobody is probed meanwhile, and what they were cancelled with holds the
            # frames they ran in, which hold us.
            tasks = (*self._tries, *self._probing.values())
            self._tries.clear()
            self._probing.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def probe(self) -> None:
        """The question was asked again while under way: see whether an upstream did that."""
        self._probe_each(self._tries.values())

    async def _ask_all(self, patience: float) -> None:
        order = self._order()
        while True:
            upstream = next(order, None)
            if upstream is not None:
                self._tries[asyncio.create_task(self._ask(upstream))] = upstream
            elif not self._tries:
                return
            longest = patience if upstream else None
            done, _ = await asyncio.wait(self._tries, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                asked = self._tries.pop(task)
                if not task.cancelled():
                    self._take(asked, task.result())
            if self.is_good:
                return
            if not done:
                self._probe_each(upstream for upstream in self._tries.values() if upstream.is_near)

    def _take(self, upstream: Upstream, reply: Foreign | None) -> None:
        """Keep ``reply`` unless there is a good one already."""
        if reply is None or self.is_good:
            return
        self.reply = reply
        if self.is_good:
            self.answered = upstream
        else:
            self.error = ExtendedError(NO_ANSWER.code, f"an upstream answers {reply.rcode.name}")

    def _order(self) -> Iterator[Upstream]:
        """Whom to ask next; whoever asks us in turn is passed over."""
        for upstream in (*self.upstreams,) * ROUNDS if len(self.upstreams) <= MAX_TRIES // ROUNDS else self.upstreams:
            if upstream not in self._looping:
                yield upstream

    async def _ask(self, upstream: Upstream) -> Foreign | None:
        """What ``upstream`` says, over TCP when it does not fit into a datagram; None when it says nothing usable."""
        try:
            reply = read(await upstream.ask(self.query, tcp=self.tcp), self.query)
        except (OSError, MalformedMessageError) as error:
            log.debug("upstream %s: %s", upstream, error)
            self.error = NETWORK_ERROR
            return None
        if not reply.is_cut or self.tcp:
            return reply
        try:
            return read(await upstream.ask(self.query, tcp=True), self.query)
        except (OSError, MalformedMessageError) as error:
            log.debug("upstream %s over TCP: %s", upstream, error)
            return reply

    def _probe_each(self, upstreams: Iterable[Upstream]) -> None:
        for upstream in set(upstreams) - self._looping - self._probing.keys():
            self._probing[upstream] = asyncio.create_task(self._probe(upstream))

    async def _probe(self, upstream: Upstream) -> None:
        query = self.probes.send(self.name, secrets.token_hex(16), lambda: self._found_loop(upstream))
        try:
            await upstream.ask(query, tcp=False)
        except OSError as error:
            log.debug("upstream %s, asked whether it asks us: %s", upstream, error)

    def _found_loop(self, upstream: Upstream) -> None:
        """``upstream`` does ask us what we ask it: it will never answer."""
        self._looping.add(upstream)
        self.error = LOOP
        if str(upstream) not in self.loops:
            self.loops.add(str(upstream))
            log.warning("upstream %s asks us what we ask it: its answers are not waited for", upstream)
        for task, asked in self._tries.items():
            if asked is upstream:
                task.cancel()
