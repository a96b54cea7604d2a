"""The gate: one SYN, one stream, however often it is sent; limits; and nothing left behind."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import pytest
from fakes import eventually

from resolverd_tunnel import gate as gating
from resolverd_tunnel import packet
from resolverd_tunnel.gate import Gate, NotYetError, Wires
from resolverd_tunnel.inside import Inside
from resolverd_tunnel.namespace import PrivateNamespace
from resolverd_tunnel.packet import Opening
from resolverd_tunnel.transport import Stream, TransportError

CLIENT, POD = ip_address("198.18.53.1"), ip_address("10.96.0.7")


def syn(port: int = 80, client_port: int = 40000) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 7, 0x4000, 64, 6, 0) + CLIENT.packed + POD.packed
    return header + struct.pack("!HHIIBBHHH", client_port, port, 1000, 0, 5 << 4, 2, 1000, 0, 0)


@dataclass(eq=False)
class FakeStream:
    closed: bool = False

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def send(self, data: bytes) -> None:
        return

    async def close(self) -> None:
        self.closed = True


class LoopbackNamespace:
    """Listens on the host's loopback, on any free port, whatever port is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.failing = False

    def listen(self, family: socket.AddressFamily, port: int, backlog: int) -> socket.socket:
        if self.failing:
            raise OSError(24, "Too many open files")
        self.asked.append(port)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        return listener

    def ends(self, client: socket.socket) -> Opening:
        return PrivateNamespace.ends(cast(PrivateNamespace, self), client)


@dataclass
class Scene:
    namespace: LoopbackNamespace = field(default_factory=LoopbackNamespace)
    inward: list[bytes] = field(default_factory=list)
    back: list[bytes] = field(default_factory=list)
    asked: list[Opening] = field(default_factory=list)
    answers: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    """A Stream, or an error, for each connection in turn."""

    def gate(self, most: int = 4) -> Gate:
        wires = Wires(self.inward.append, self.back.append)
        return Gate(self.open, cast(Inside, self.namespace), wires, most)

    async def open(self, ends: Opening) -> Stream:
        self.asked.append(ends)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return cast(Stream, answer)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


@pytest.fixture
async def gate(scene: Scene) -> AsyncIterator[Gate]:
    made = scene.gate()
    yield made
    await made.close()


async def test_a_syn_is_held_until_the_far_side_has_accepted(scene: Scene, gate: Gate) -> None:
    for _ in range(3):
        gate.admit(syn())
        await asyncio.sleep(0)
    assert scene.asked == [Opening(CLIENT, 40000, POD, 80)]
    assert not scene.inward
    scene.answers.put_nowait(FakeStream())
    await eventually(lambda: scene.inward == [syn()])
    assert scene.namespace.asked == [80]
    gate.admit(syn())  # the answer of the kernel was late
    assert scene.inward == [syn(), syn()]
    assert len(scene.asked) == 1


async def test_one_listener_serves_a_port_of_all_addresses(scene: Scene, gate: Gate) -> None:
    for number in range(3):
        scene.answers.put_nowait(FakeStream())
        gate.admit(syn(client_port=40000 + number))
    await eventually(lambda: len(scene.inward) == 3)
    assert scene.namespace.asked == [80]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ConnectionRefusedError("no"), packet.TCP), (TransportError("10.96.0.7:80", "no way"), packet.ICMP)],
)
async def test_what_cannot_be_opened_is_answered(scene: Scene, gate: Gate, error: Exception, kind: int) -> None:
    scene.answers.put_nowait(error)
    gate.admit(syn())
    await eventually(lambda: bool(scene.back))
    assert scene.back[0][9] == kind
    assert not scene.inward
    scene.answers.put_nowait(FakeStream())
    gate.admit(syn())  # the next attempt is a new one
    await eventually(lambda: bool(scene.inward))


async def test_what_is_not_known_yet_gets_no_answer(scene: Scene, gate: Gate) -> None:
    scene.answers.put_nowait(NotYetError())
    gate.admit(syn())
    await eventually(scene.answers.empty)
    scene.answers.put_nowait(FakeStream())
    await asyncio.sleep(0.01)
    gate.admit(syn())
    await eventually(lambda: scene.inward == [syn()])
    assert not scene.back


async def test_a_client_that_does_not_finish_the_handshake_leaves_no_stream(
    scene: Scene, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gating, "HANDSHAKE_LIMIT", 0.02)
    stream = FakeStream()
    scene.answers.put_nowait(stream)
    gate.admit(syn())
    await eventually(lambda: stream.closed)


async def test_a_port_that_is_used_again_ends_what_its_last_client_left(
    scene: Scene, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.namespace, "ends", lambda _: packet.opening(syn()))
    first, second = FakeStream(), FakeStream()
    scene.answers.put_nowait(first)
    gate.admit(syn())
    await eventually(lambda: len(scene.inward) == 1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        accepted.setblocking(False)
        gate.accepted(accepted)
        client.shutdown(socket.SHUT_WR)
        await eventually(lambda: next(flow.half_closed for _, flow in gate.flows))
        scene.answers.put_nowait(second)
        gate.admit(syn())
        await eventually(lambda: len(scene.inward) == 2)
        assert (first.closed, second.closed) == (True, False)
        assert len(scene.asked) == 2


async def test_above_the_limit_clients_are_refused(scene: Scene, gate: Gate) -> None:
    for number in range(5):
        gate.admit(syn(client_port=40000 + number))
    assert gate.turned_away == 1
    assert [answer[9] for answer in scene.back] == [packet.TCP]
    assert packet.opening(scene.back[0]) == Opening(POD, 80, CLIENT, 40004)


async def test_no_listener_no_connection_and_no_leak(scene: Scene, gate: Gate) -> None:
    scene.namespace.failing = True
    stream = FakeStream()
    scene.answers.put_nowait(stream)
    gate.admit(syn())
    await eventually(lambda: stream.closed and bool(scene.back))
    assert scene.back[0][9] == packet.TCP


async def test_a_connection_nobody_asked_for_is_reset(scene: Scene, gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    gate.accepted(accepted)
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


async def test_closing_closes_everything(scene: Scene) -> None:
    gate = scene.gate()
    stream = FakeStream()
    scene.answers.put_nowait(stream)
    gate.admit(syn())
    await eventually(lambda: bool(scene.inward))
    gate.admit(syn(client_port=40001))  # is still held
    await asyncio.sleep(0)
    await gate.close()
    assert stream.closed
