"""Worker processes: started, told everything, restarted when they die; stopped by closing their channel."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resolverd.channel import Channel
from resolverd.cluster.snapshot import Change, Key, Kind
from resolverd.errors import ResolverdError
from resolverd.feed import Feed, Ready, parts
from resolverd.state import PYTHON

log = logging.getLogger(__name__)

PART = 250
"""Objects and endpoints in one message: it is read in about a millisecond, during which nothing is answered."""
STOP_DEADLINE = 5.0
"""Seconds a worker may take to stop by itself."""
MOST_TURNS = 8
"""Turns that an outbox keeps apart; a worker that takes longer is told things out of order."""
RESTART_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each restart in a row; the last one again and again."""
STEADY = 2.0
"""Seconds that a worker must have served for its next restart to be the first in a row: whoever kills it now and then,
the kernel where memory is short above all, must not take names away for longer each time."""


@dataclass(slots=True)
class Outbox:
    """What a worker has not been told yet: the newest value of each type, and the newest Change of each object.

    A slow worker costs memory for each object once, not for each event; or a few times, where what changed and how to
    answer were told in turns: names may be denied before or after a change, and the order says which.
    """

    values: dict[type, Any] = field(default_factory=dict)
    changes: dict[tuple[Kind, Key], Change] = field(default_factory=dict)
    before: list[list[Any]] = field(default_factory=list)
    """Earlier turns, which nothing that came later may overtake."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, value: Any) -> None:
        if self._would_overtake(value) and len(self.before) < MOST_TURNS:
            self.before.append(self._turn())
        if isinstance(value, Feed):
            self.changes.update({(change.kind, change.key): change for change in value.changes})
        self.values[type(value)] = value
        self.wake.set()

    async def take(self) -> list[Any]:
        """Everything there is to tell; waits until there is something."""
        await self.wake.wait()
        self.wake.clear()
        turns, self.before = [*self.before, self._turn()], []
        return [value for turn in turns for value in turn]

    def clear(self) -> None:
        self.before.clear()
        self.values.clear()
        self.changes.clear()

    def _would_overtake(self, value: Any) -> bool:
        """Whether ``value`` would take a place before a Feed, or a Feed one before anything else, that came earlier."""
        kinds = list(self.values)
        later = kinds[kinds.index(type(value)) + 1 :] if type(value) in kinds else []
        return bool(later) if isinstance(value, Feed) else Feed in later

    def _turn(self) -> list[Any]:
        taken, self.values = self.values, {}
        changes, self.changes = tuple(self.changes.values()), {}
        if (feed := taken.get(Feed)) is not None:
            taken[Feed] = Feed(changes, feed.synced, feed.serial)
        return list(taken.values())


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process and its supervision."""

    name: str
    module: str
    descriptors: Mapping[str, int]
    """Options that hand on a descriptor, besides ``--channel``."""
    greeting: Callable[[], Iterable[Any]]
    """All that a fresh worker must be told."""
    on_message: Callable[[Any], None]
    extra: Sequence[str] = ()
    """Further arguments."""
    kept: Sequence[int] = ()
    """Descriptors that it has as long as it lives, and needs not know of."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    _ready_since: float = 0.0
    """On the loop's clock, while it is ready."""

    def tell(self, value: Any) -> None:
        """Send ``value`` as soon as the worker takes it; an older value of the same type is superseded."""
        self.outbox.put(value)

    async def run(self) -> None:
        """Keep the process alive until cancelled; then stop it. Raises what the worker gives up with."""
        failures = 0
        while True:
            ended = await self._once()
            if self.ready.is_set() and asyncio.get_running_loop().time() - self._ready_since > STEADY:
                failures = 0
            self.ready.clear()
            pause = RESTART_PAUSES[min(failures, len(RESTART_PAUSES) - 1)]
            failures += 1
            self.restarts += 1
            log.error("the %s process %s; starting it again in %g s", self.name, ended, pause)
            await asyncio.sleep(pause)

    async def _once(self) -> str:
        """How the process ended, or why there was none."""
        try:
            process, ours = await self._start()
        except OSError as error:  # too little memory, too many processes or descriptors: that passes
            return f"cannot be started: {error.strerror}"
        try:
            await self._serve(await Channel.over(ours))
        finally:
            code = await self._stopped(process)
        return f"ended (exit code {code})"

    async def _start(self) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """The process, and our end of its channel. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        handed = {"--channel": theirs.fileno(), **self.descriptors}
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *PYTHON,
                    self.module,
                    *(str(part) for option in handed.items() for part in option),
                    *self.extra,
                    pass_fds=(*handed.values(), *self.kept),
                    stdin=asyncio.subprocess.DEVNULL,
                    # A Ctrl-C is the daemon's: it stops the workers when the host is put back.
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return process, ours

    async def _serve(self, channel: Channel) -> None:
        """Tell and hear until the process ends, or we are cancelled."""
        self.outbox.clear()
        for value in self.greeting():
            self.outbox.put(value)
        sender = asyncio.create_task(self._send(channel))
        try:
            await self._receive(channel)
        finally:
            sender.cancel()
            channel.abort()
            # Not by suppressing CancelledError: one that comes meanwhile is meant for us.
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, channel: Channel) -> None:
        synced = False
        while True:
            for value in await self.outbox.take():
                if isinstance(value, Feed):
                    for part in _parts(value, synced):
                        await channel.send(part)
                    synced = value.synced
                else:
                    await channel.send(value)

    async def _receive(self, channel: Channel) -> None:
        while True:
            try:
                message = await channel.receive()
            except EOFError:
                return
            if isinstance(message, ResolverdError):
                raise message
            if isinstance(message, Ready):
                self._ready_since = asyncio.get_running_loop().time()
                self.ready.set()
            self.on_message(message)

    async def _stopped(self, process: asyncio.subprocess.Process) -> int:
        """Wait for the end of the process, also while we are cancelled: nobody else would."""
        ending = asyncio.create_task(self._end(process))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        try:
            return await asyncio.wait_for(process.wait(), STOP_DEADLINE)
        except TimeoutError:
            log.error("the %s process does not stop by itself: killed", self.name)
            process.kill()
            return await process.wait()


def _parts(feed: Feed, synced: bool) -> Iterator[Feed]:
    """``feed`` in messages that are read in a few milliseconds each, during which the worker does nothing else.

    Until the last of them the worker is in step, or not, as it was before (``synced``).
    """
    *first, last = list(parts(feed.changes, PART)) or [()]
    for changes in first:
        yield Feed(changes, synced, feed.serial)
    yield Feed(last, feed.synced, feed.serial)
