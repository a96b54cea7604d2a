"""Garbage goes when nobody waits, or when it is too much; what is known is not looked through in a storm."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from fakes import eventually

from resolverd.dns import tidy as tidying
from resolverd.dns.tidy import tidy

LOOK = 0.01
PIECES = 50
"""Objects in a piece of garbage, at least."""


class Node:
    def __init__(self) -> None:
        self.itself = self
        self.more: list[list[None]] = [[] for _ in range(PIECES)]


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tidying, "SOME", 20 * PIECES)
    monkeypatch.setattr(tidying, "MANY", 400 * PIECES)
    gc.collect()
    yield
    gc.enable()


@asynccontextmanager
async def tidied(asked: Callable[[], int]) -> AsyncIterator[None]:
    task = asyncio.create_task(tidy(asked, LOOK))
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def garbage(count: int) -> list[weakref.ref[Node]]:
    return [weakref.ref(Node()) for _ in range(count)]


def is_gone(made: list[weakref.ref[Node]]) -> bool:
    return all(each() is None for each in made)


async def test_some_garbage_goes_in_a_quiet_moment() -> None:
    async with tidied(lambda: 0):
        made = garbage(40)
        await eventually(lambda: is_gone(made))


async def test_it_waits_while_somebody_asks() -> None:
    asked = itertools.count()
    async with tidied(lambda: next(asked)):
        made = garbage(40)
        await asyncio.sleep(20 * LOOK)
        assert not any(each() is None for each in made)


async def test_much_garbage_goes_even_so() -> None:
    asked = itertools.count()
    async with tidied(lambda: next(asked)):
        made = garbage(800)
        await eventually(lambda: is_gone(made))


async def test_little_garbage_is_left_alone() -> None:
    async with tidied(lambda: 0):
        made = garbage(2)
        await asyncio.sleep(20 * LOOK)
        assert not any(each() is None for each in made)


async def test_what_only_replaces_what_was_is_no_reason() -> None:
    """A storm of changes: many objects come, and as many go, none of them in a cycle."""
    asked = itertools.count()
    async with tidied(lambda: next(asked)):
        made = garbage(2)
        known: list[list[None]] = [[] for _ in range(PIECES)]
        for _ in range(1000):
            known[:] = [[] for _ in range(PIECES)]
        await asyncio.sleep(20 * LOOK)
        assert not any(each() is None for each in made)
