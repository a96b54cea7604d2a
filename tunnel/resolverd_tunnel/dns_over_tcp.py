"""DNS over UDP to the cluster's DNS service: asked over TCP, since port-forward carries nothing else (RFC 7766).

A service is one of DNS when it has port 53 for UDP and for TCP. Its queries share a connection; each gets a number of
ours, since two clients may have taken the same.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from resolverd.dns.message import HEADER_SIZE, PLAIN_LIMIT, TC, MalformedMessageError, parse
from resolverd.names import Address

from . import packet
from .gate import NotYetError
from .packet import Opening, Unreachable
from .transport import Stream, StreamBrokenError, TransportError

log = logging.getLogger(__name__)

PORT = 53
MOST = 1024
"""Queries under way, without an answer yet; above it they are dropped, as a busy server would."""
IDLE = 10.0
"""Seconds a connection without queries is kept."""
PATIENCE = 5.0
"""Seconds a query is waited for; its client asks again after as many."""
LARGEST = 65_000
"""Octets of a reply that fit a packet (RFC 768), and the device."""
TRIES = 2
"""Connections without any reply for one query: a server may end one that it finds idle just when it is used again."""


@dataclass(eq=False, slots=True)
class _Query:
    datagram: bytes
    """The whole packet, for its ends."""
    message: bytes
    limit: int
    """Octets the client takes."""
    until: float
    """When the client has given up, on the loop's clock."""
    expiry: asyncio.TimerHandle | None = None
    """When it is under way no more, if it is not answered."""
    tries: int = 0


@dataclass(eq=False, slots=True)
class _Conversation:
    """A connection to one service, and what it is asked."""

    waiting: deque[_Query] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Something waits."""
    asked: dict[int, _Query] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    replies: int = 0
    task: asyncio.Task[None] | None = None


class DnsOverTcp:
    """Takes UDP packets from the host, and puts the replies back."""

    def __init__(
        self,
        is_dns: Callable[[Address], bool],
        open_stream: Callable[[Opening], Awaitable[Stream]],
        back: Callable[[bytes], None],
    ) -> None:
        """``open_stream`` as for :class:`resolverd_tunnel.gate.Gate`."""
        self._is_dns = is_dns
        self._open_stream = open_stream
        self._back = back
        self._conversations: dict[Opening, _Conversation] = {}
        self._under_way: set[_Query] = set()
        self.answered = 0

    def take(self, datagram: bytes) -> bool:
        """Whether a packet of kind UDP is a query for a DNS service; if so it is answered some time."""
        ends = packet.opening(datagram)
        if ends.port != PORT or not self._is_dns(ends.address):
            return False
        message = packet.payload(datagram)
        try:
            edns = parse(message).edns if len(message) >= HEADER_SIZE else None
        except MalformedMessageError:
            edns = None  # the server's to judge
        if len(message) < HEADER_SIZE or len(self._under_way) >= MOST:
            return True
        loop = asyncio.get_running_loop()
        limit = min(max(PLAIN_LIMIT, edns.size), LARGEST) if edns else PLAIN_LIMIT
        query = _Query(datagram, message, limit, loop.time() + PATIENCE)
        self._under_way.add(query)
        query.expiry = loop.call_later(PATIENCE, self._under_way.discard, query)
        self._ask(Opening(ends.client, 0, ends.address, PORT), query)
        return True

    async def close(self) -> None:
        tasks = [c.task for c in self._conversations.values() if c.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _put_back(self, query: _Query, reply: bytes) -> None:
        """Put the packet that answers ``query`` into the host."""
        self._under_way.discard(query)
        if query.expiry:
            query.expiry.cancel()
        self._back(reply)

    def _ask(self, ends: Opening, query: _Query) -> None:
        conversation = self._conversations.get(ends)
        if conversation is None:
            conversation = self._conversations[ends] = _Conversation()
            conversation.task = asyncio.create_task(self._converse(ends, conversation))
        conversation.waiting.append(query)
        conversation.news.set()

    async def _converse(self, ends: Opening, conversation: _Conversation) -> None:
        """Until it is idle, or broken."""
        stream = None
        try:
            stream = await self._open_stream(ends)
            async with asyncio.timeout(None) as idle:
                await _first_of(self._receive(stream, conversation, idle), self._send(stream, conversation, idle))
        except NotYetError:
            conversation.asked.clear()
        except ConnectionRefusedError:
            self._refuse(conversation, Unreachable.PORT)
        except TransportError:
            self._refuse(conversation, Unreachable.ADDRESS)
        except (StreamBrokenError, TimeoutError) as error:
            log.debug("%s: %s", ends, error)
        finally:
            del self._conversations[ends]
            if stream is not None:
                await stream.close()
        self._ask_again(ends, conversation)

    async def _send(self, stream: Stream, conversation: _Conversation, idle: asyncio.Timeout) -> None:
        """Send what is asked, for ever. Asking does not keep a connection on which nothing is answered."""
        while True:
            while conversation.waiting:
                query = conversation.waiting.popleft()
                if not conversation.asked:
                    idle.reschedule(asyncio.get_running_loop().time() + IDLE)
                number = next(conversation.numbers) & 0xFFFF
                conversation.asked[number] = query
                message = number.to_bytes(2, "big") + query.message[2:]
                await stream.send(len(message).to_bytes(2, "big") + message)
            conversation.news.clear()
            await conversation.news.wait()

    async def _receive(self, stream: Stream, conversation: _Conversation, idle: asyncio.Timeout) -> None:
        """Hand out replies, until the server ends."""
        pending = b""
        while data := await stream.receive():
            pending += data
            while len(pending) >= 2 and len(pending) >= 2 + (length := int.from_bytes(pending[:2], "big")):
                reply, pending = pending[2 : 2 + length], pending[2 + length :]
                query = conversation.asked.pop(int.from_bytes(reply[:2], "big"), None)
                if query is not None and len(reply) >= HEADER_SIZE:
                    conversation.replies += 1
                    self._reply(query, reply)
                idle.reschedule(asyncio.get_running_loop().time() + IDLE)

    def _reply(self, query: _Query, reply: bytes) -> None:
        message = query.message[:2] + reply[2:]
        if len(message) > query.limit:
            message = _truncated(message)
        self.answered += 1
        self._put_back(query, packet.datagram_back(query.datagram, message))

    def _refuse(self, conversation: _Conversation, why: Unreachable) -> None:
        """Tell everyone who waits that nobody will answer."""
        while conversation.waiting:
            query = conversation.waiting.popleft()
            self._put_back(query, packet.unreachable(query.datagram, why))

    def _ask_again(self, ends: Opening, conversation: _Conversation) -> None:
        """What a connection that ended has not answered is asked on the next one."""
        left = [*conversation.asked.values(), *conversation.waiting]
        now = asyncio.get_running_loop().time()
        for query in left:
            query.tries += 0 if conversation.replies else 1
            if query.tries < TRIES and now < query.until:
                self._ask(ends, query)


async def _first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run ``parts`` together until one has ended, as that has."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _truncated(message: bytes) -> bytes:
    """The head and question of a reply that is too long, with the flag that makes the client ask over TCP."""
    flags = int.from_bytes(message[2:4], "big") | TC
    try:
        question = parse(message).question
    except MalformedMessageError:
        question = b""
    counts = (1 if question else 0).to_bytes(2, "big") + bytes(6)
    return message[:2] + flags.to_bytes(2, "big") + counts + question
