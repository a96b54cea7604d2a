"""One connection for many questions: shared, given up when idle or silent, and opened anew when it was ended."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from dns_wire import query, read
from fakes import eventually
from upstream_double import a, asked_question, reply_to

from resolverd.dns import line
from resolverd.dns.line import MAX_LINES, Line

GUARD = 20.0
"""Seconds; only a hang takes that long."""
Behaves = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A DNS server over TCP that behaves as a test says; counts its connections."""

    behaves: Behaves
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0
    line: Line = field(default_factory=Line)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            await self.behaves(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def ask(self, name: str) -> bytes:
        reply = await asyncio.wait_for(self.line.ask("127.0.0.1", self.port, query(name)), GUARD)
        assert read(reply).question == asked_question(query(name))
        return reply


async def received(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(length)


def framed(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


async def answering(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(framed(reply_to(await received(reader), a())))


@asynccontextmanager
async def serving(behaves: Behaves) -> AsyncIterator[Server]:
    made = Server(behaves)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.line.close()
        listening.close()
        for writer in made.writers:
            writer.close()
        await asyncio.sleep(0.01)


async def test_questions_share_connections_and_answers_come_in_any_order() -> None:
    async def last_first(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = [await received(reader) for _ in range(20 // MAX_LINES)]
            assert len({one[:2] for one in asked}) == 20 // MAX_LINES
            for one in reversed(asked):
                for octet in framed(reply_to(one, a())):
                    writer.write(bytes((octet,)))

    async with serving(last_first) as server:
        for _ in range(2):
            await asyncio.gather(*(server.ask(f"{n}.corp.test") for n in range(20)))
        assert server.connections == MAX_LINES


async def test_one_question_after_the_other_takes_one_connection() -> None:
    async with serving(answering) as server:
        for number in range(20):
            await server.ask(f"{number}.corp.test")
        assert server.connections == 1


async def test_a_server_that_answers_in_turn_keeps_nobody_waiting() -> None:
    """CoreDNS reads the next question of a connection when it has answered the one before."""
    free = asyncio.Event()

    async def in_turn(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await received(reader)
            if b"slow" in asked:
                await free.wait()
            writer.write(framed(reply_to(asked, a())))

    async with serving(in_turn) as server:
        waiting = asyncio.create_task(server.ask("slow.corp.test"))
        await eventually(lambda: server.connections == 1)
        await server.ask("quick.corp.test")
        free.set()
        await waiting


async def test_one_that_the_server_ended_is_opened_anew() -> None:
    async def once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(reply_to(await received(reader), a())))
        await received(reader)  # as if the answer and the end crossed the next question
        writer.close()

    async with serving(once) as server:
        for number in range(4):
            await server.ask(f"{number}.corp.test")
        assert server.connections == 4


async def test_a_server_that_always_ends_it_is_asked_twice_at_most() -> None:
    async def never(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await received(reader)
        writer.close()

    async with serving(never) as server:
        with pytest.raises(ConnectionError):
            await server.ask("git.corp.test")
        assert server.connections == 1


async def test_an_idle_one_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "IDLE", 0.05)
    ended = asyncio.Event()

    async def behaves(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(server, reader, writer)
        finally:
            ended.set()

    async with serving(behaves) as server:
        await server.ask("a.corp.test")
        await asyncio.wait_for(ended.wait(), GUARD)
        await server.ask("b.corp.test")
        assert server.connections == 2


async def test_a_silent_one_is_not_waited_for_twice() -> None:
    async def first_is_silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.connections > 1:
            await answering(server, reader, writer)
        while True:
            await received(reader)

    async with serving(first_is_silent) as server:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.line.ask("127.0.0.1", server.port, query("a.corp.test")), 0.1)
        await server.ask("b.corp.test")
        assert server.connections == 2


async def test_a_slow_answer_does_not_end_it_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MAX_LINES", 1)

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await received(reader)
            if b"slow" not in asked:
                writer.write(framed(reply_to(asked, a())))

    async with serving(slow) as server:
        waiting = asyncio.create_task(server.ask("slow.corp.test"))
        await eventually(lambda: server.connections == 1)
        await server.ask("a.corp.test")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await server.ask("b.corp.test")
        assert server.connections == 1


async def test_answers_to_other_questions_are_not_believed() -> None:
    async def lies(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await received(reader)
        other = asked[:2] + query("evil.corp.test")[2:]
        writer.write(framed(b"\xff\xff" + reply_to(asked, a())[2:]) + framed(reply_to(other, a())))
        await received(reader)

    async with serving(lies) as server:
        with pytest.raises(ConnectionAbortedError):
            await server.ask("git.corp.test")


async def test_it_goes_where_the_server_is_now() -> None:
    async with serving(answering) as one, serving(answering) as other:
        await one.ask("a.corp.test")
        await one.line.ask("127.0.0.1", other.port, query("b.corp.test"))
        assert (one.connections, other.connections) == (1, 1)
