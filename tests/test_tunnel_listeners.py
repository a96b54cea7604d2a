"""Listeners: one for a port, as many as there may be, and the least used goes first."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest
from test_tunnel_gate import LoopbackNamespace

from resolverd_tunnel import listeners as listening
from resolverd_tunnel.inside import Inside
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


async def test_closing_closes_them(listeners: Listeners) -> None:
    listeners.ensure(socket.AF_INET, 80)
    (listener,) = listeners._open.values()
    listeners.close()
    assert listener.fileno() == -1
