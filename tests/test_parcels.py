"""Messages between processes that come and go: whole, in order, and never those of somebody who is gone."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import eventually

from resolverd import parcels
from resolverd.parcels import Parcels
from resolverd.sockets import message_pair


@dataclass(eq=False)
class Process:
    """One end, as a process that was just started has it."""

    end: socket.socket
    heard: list[Any] = field(default_factory=list)
    begun: int = 0
    parcels: Parcels = field(init=False)

    def __post_init__(self) -> None:
        self.parcels = Parcels(self.end.dup(), self.heard.append, self._begin)

    def _begin(self) -> None:
        self.begun += 1

    def die(self) -> None:
        self.parcels.close()


async def test_messages_of_any_size_arrive_whole_and_in_order() -> None:
    ours, theirs = message_pair()
    with ours, theirs:
        one, other = Process(ours), Process(theirs)
        await eventually(lambda: one.begun == other.begun == 1)
        messages = [bytes([number]) * 10 ** (number % 7) for number in range(1, 20)]
        for message in messages:
            one.parcels.send(message)
        other.parcels.send("back")
        await eventually(lambda: len(other.heard) == len(messages))
        assert other.heard == messages
        assert one.heard == ["back"]
        one.die()
        other.die()


async def test_who_waits_is_told_when_everything_has_left() -> None:
    ours, theirs = message_pair()
    with ours, theirs:
        one, other = Process(ours), Process(theirs)
        await eventually(lambda: one.begun == other.begun == 1)
        sent = []
        one.parcels.on_sent = lambda: sent.append(one.parcels.is_busy)
        assert not one.parcels.is_busy
        one.parcels.send(b"x" * 5_000_000)
        assert one.parcels.is_busy
        await eventually(lambda: sent == [False])
        await eventually(lambda: len(other.heard) == 1)
        one.die()
        other.die()


async def test_where_a_full_socket_never_tells_that_it_has_room_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Datagrams on macOS: ENOBUFS, and always writable."""
    ours, theirs = message_pair()
    with ours, theirs:
        one, other = Process(ours), Process(theirs)
        await eventually(lambda: one.begun == other.begun == 1)
        send = socket.socket.send
        full: Iterator[bool] = iter([True, False, True, True])

        def sent(self: socket.socket, data: bytes) -> int:
            if next(full, False):
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            return send(self, data)

        monkeypatch.setattr(socket.socket, "send", sent)
        left: list[bool] = []
        one.parcels.on_sent = lambda: left.append(one.parcels.is_busy)
        one.parcels.send(b"x" * 100_000)
        assert one.parcels.is_busy
        one.parcels.send("more")
        await eventually(lambda: len(other.heard) == 2)
        assert (other.heard, left) == ([b"x" * 100_000, "more"], [False])
        full = itertools.repeat(True)
        one.parcels.send("for nobody")
        one.die()
        other.die()
        await asyncio.sleep(3 * parcels.PAUSE)


async def test_a_process_that_is_started_again_hears_nothing_that_was_meant_for_the_last_one() -> None:
    ours, theirs = message_pair()
    with ours, theirs:
        one, first = Process(ours), Process(theirs)
        await eventually(lambda: one.begun == first.begun == 1)
        first.parcels.send(b"y" * 5_000_000)  # it dies in the middle of it
        first.die()
        one.parcels.send("for the first")
        one.parcels.send(b"x" * 5_000_000)
        second = Process(theirs)
        await eventually(lambda: one.begun == 2)
        one.parcels.send("for the second")
        await eventually(lambda: bool(second.heard))
        assert second.heard == ["for the second"]
        assert second.begun == 1
        second.parcels.send("from the second")
        await eventually(lambda: bool(one.heard))
        assert one.heard == ["from the second"]
        one.die()
        second.die()


async def test_nobody_hears_what_is_said_to_nobody() -> None:
    ours, theirs = message_pair()
    with ours, theirs:
        one = Process(ours)
        one.parcels.send("is there anybody?")
        await asyncio.sleep(0.01)
        other = Process(theirs)
        await eventually(lambda: one.begun == other.begun == 1)
        one.parcels.send("hello")
        await eventually(lambda: bool(other.heard))
        assert other.heard == ["hello"]
        one.die()
        other.die()


async def test_one_message_is_taken_in_a_turn_of_the_loop() -> None:
    """It may be much to do, and somebody may wait for his route meanwhile."""
    ours, theirs = message_pair()
    with ours, theirs:
        one, other = Process(ours), Process(theirs)
        await eventually(lambda: one.begun == other.begun == 1)
        for message in ("first", "x" * 1000, "last"):
            one.parcels.send(message)
        other.parcels._drain()
        assert other.heard == ["first"]
        other.parcels._drain()
        assert len(other.heard) == 2
        await eventually(lambda: other.heard[2:] == ["last"])
        one.die()
        other.die()
