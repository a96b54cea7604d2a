"""Looking at a running daemon: queries as they come, open connections, the level of the log."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from resolverd import logs
from resolverd.dns.claims import claim_of
from resolverd.dns.message import HEADER_SIZE
from resolverd.dns.records import Rcode, Type, text_labels
from resolverd.dns.rules import DnsConfig
from resolverd.dns.tally import rule_of
from resolverd.errors import UsageError
from resolverd.feed import AskConnections, Connections, LogLevel, Seen, Tail, Tailed

MOST = 2000
"""Queries that wait for one listener; what is more is dropped, and counted."""
ASK_DEADLINE = 1.0
"""Seconds the tunnel process has to tell its connections."""

Json = dict[str, Any]


class Listener:
    """One who wants to see queries, or has gone."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Json] = asyncio.Queue(MOST)
        self._dropped = 0

    def put(self, line: Json) -> None:
        try:
            self._queue.put_nowait(line)
        except asyncio.QueueFull:
            self._dropped += 1

    def drop(self, count: int) -> None:
        self._dropped += count

    async def next(self) -> Json:
        """The next line; how many were dropped since the last time goes with it."""
        line = await self._queue.get()
        dropped, self._dropped = self._dropped, 0
        return {**line, "dropped": dropped} if dropped else line


class Observation:
    """What is observed now. The workers are told by ``tell`` (the DNS process) and ``tell_tunnel``."""

    def __init__(
        self,
        level: str,
        tell: Callable[[object], None],
        tell_tunnel: Callable[[object], None] | None,
        config: Callable[[], DnsConfig],
    ) -> None:
        self.level = level
        self.events = 0
        """Changes of the cluster that were taken in."""
        self._tell, self._tell_tunnel, self._config = tell, tell_tunnel, config
        self._listeners: set[Listener] = set()
        self._asked: list[asyncio.Future[list[Json]]] = []
        self._began_with = level

    def greeting(self, dns: bool = False) -> Iterator[object]:
        """What a worker that is started again must be told."""
        if self.level != self._began_with:
            yield LogLevel(self.level)
        if dns and self._listeners:
            yield Tail(True)

    def take(self, message: object) -> None:
        """A worker says something; what is not for us is passed over."""
        if isinstance(message, Tailed):
            config = self._config()
            lines = [line(seen, config) for seen in message.seen]
            for listener in self._listeners:
                listener.drop(message.dropped)
                for each in lines:
                    listener.put(each)
        elif isinstance(message, Connections):
            asked, self._asked = self._asked, []
            for waiting in asked:
                if not waiting.done():
                    waiting.set_result([dict(value) for value in message.values])

    def set_level(self, level: str) -> None:
        """Log from ``level`` on, in all processes. UsageError when there is no such level."""
        if level not in logs.LEVELS:
            raise UsageError(f"log level {level}", "there is none of that name", " or ".join(logs.LEVELS))
        self.level = level
        logs.set_level(level)
        self._tell(LogLevel(level))
        if self._tell_tunnel:
            self._tell_tunnel(LogLevel(level))

    async def connections(self) -> list[Json]:
        """The connections through the tunnel; none without one. TimeoutError when its process does not answer."""
        if self._tell_tunnel is None:
            return []
        waiting: asyncio.Future[list[Json]] = asyncio.get_running_loop().create_future()
        self._asked.append(waiting)
        self._tell_tunnel(AskConnections())
        return await asyncio.wait_for(waiting, ASK_DEADLINE)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        """A listener, while entered. Queries are noted as long as there is one."""
        listener = Listener()
        self._listeners.add(listener)
        if len(self._listeners) == 1:
            self._tell(Tail(True))
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._tell(Tail(False))


def line(seen: Seen, config: DnsConfig) -> Json:
    """A query for people and scripts. What is no question is shown without a name."""
    labels, kind = question(seen.query)
    name = ".".join(label.decode("ascii", "backslashreplace") for label in labels) + "."
    if kind:
        claim = claim_of(text_labels(labels), config)
        elsewhere = None if claim.zone or seen.rcode == Rcode.REFUSED else claim.elsewhere
        rule = rule_of(labels, claim.zone is not None, elsewhere, config)
    else:
        name, rule = "", "malformed"
    return {
        "time": datetime.fromtimestamp(seen.when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "client": seen.client,
        "name": name,
        "type": Type(kind).name if kind in set(Type) else f"TYPE{kind}",
        "rcode": Rcode(seen.rcode).name if seen.rcode in set(Rcode) else str(seen.rcode),
        "rule": rule,
        "us": round(seen.seconds * 1_000_000),
    }


def question(query: bytes) -> tuple[tuple[bytes, ...], int]:
    """Labels and type of the first question; type 0 where there is none."""
    labels, at = [], HEADER_SIZE
    try:
        while length := query[at]:
            if length > 63:
                return (), 0
            labels.append(query[at + 1 : at + 1 + length])
            at += 1 + length
        (kind,) = struct.unpack_from("!H", query, at + 1)
    except (IndexError, struct.error):
        return (), 0
    return tuple(labels), int(kind)
