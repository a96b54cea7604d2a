"""Listeners: one for a port, as many as there may be, and the least used goes first."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from fakes import eventually
from test_tunnel_gate import LoopbackNamespace

from resolverd_tunnel import listeners as listening
from resolverd_tunnel.inside import Inside
from resolverd_tunnel.kernel_silence import keep_alive
from resolverd_tunnel.listeners import Listeners


@pytest.fixture
async def namespace() -> LoopbackNamespace:
    return LoopbackNamespace()


@pytest.fixture
async def listeners(namespace: LoopbackNamespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listeners]:
    monkeypatch.setattr(listening, "MOST", 3)
    made = Listeners(cast(Inside, namespace), socket.socket.close)
    yield made
    made.close()


async def test_above_the_limit_the_one_longest_unused_goes(listeners: Listeners, namespace: LoopbackNamespace) -> None:
    for port in (1, 2, 3, 1, 4):
        listeners.ensure(socket.AF_INET, port)
    assert namespace.asked == [1, 2, 3, 4]
    assert [port for _, port in listeners._open] == [3, 1, 4]
    listeners.ensure(socket.AF_INET, 2)
    assert namespace.asked == [1, 2, 3, 4, 2]


async def test_the_families_have_listeners_of_their_own(listeners: Listeners, namespace: LoopbackNamespace) -> None:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_INET):
        listeners.ensure(family, 80)
    assert namespace.asked == [80, 80]


async def test_without_a_descriptor_left_it_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is not taken stays, and so would the event that says it is there."""
    monkeypatch.setattr(listening, "PAUSE", 0.05)
    accepted: list[socket.socket] = []
    listeners = Listeners(cast(Inside, LoopbackNamespace()), accepted.append)
    listeners.ensure(socket.AF_INET, 80)
    (listener,) = listeners._open.values()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        await asyncio.sleep(0.3)
        assert not accepted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(caplog.records) == 1
    assert "Too many open files" in caplog.text
    await eventually(lambda: len(accepted) == 2)
    listeners.close()
    for one in (*clients, *accepted):
        one.close()


def macos(self: socket.socket, level: int, option: int, *value: Any) -> None:
    """``setsockopt`` of a connection that the client has reset already."""
    if level == socket.IPPROTO_TCP or option == socket.SO_KEEPALIVE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


async def test_a_client_that_has_reset_its_connection_keeps_nobody_from_his(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[socket.socket] = []
    listeners = Listeners(cast(Inside, LoopbackNamespace()), accepted.append)
    listeners.ensure(socket.AF_INET, 80)
    (listener,) = listeners._open.values()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
    monkeypatch.setattr(socket.socket, "setsockopt", macos)
    listeners._accept(listener)
    assert len(accepted) == 2, "the first, which whoever carries it finds broken, and the second"
    keep_alive(accepted[0])
    listeners.close()
    for one in (*clients, *accepted):
        one.close()


async def test_one_that_waits_for_a_descriptor_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PAUSE", 0.01)
    listeners = Listeners(cast(Inside, LoopbackNamespace()), socket.socket.close)
    listeners.ensure(socket.AF_INET, 80)
    (listener,) = listeners._open.values()
    listeners._rest(listener, OSError(24, "Too many open files"))
    listeners.close()
    await asyncio.sleep(0.05)
    assert listener.fileno() == -1
    assert not listeners._resting


async def test_closing_closes_them(listeners: Listeners) -> None:
    listeners.ensure(socket.AF_INET, 80)
    (listener,) = listeners._open.values()
    listeners.close()
    assert listener.fileno() == -1
