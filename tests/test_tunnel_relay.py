"""The relay between a kernel connection and a stream: every way in which either side can end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from resolverd_tunnel import relay as relaying
from resolverd_tunnel.client_linux import ClientState
from resolverd_tunnel.relay import Flow, relay
from resolverd_tunnel.transport import MAX_SEND, StreamBrokenError


@dataclass
class FakeStream:
    """A pod under the test's control."""

    incoming: asyncio.Queue[bytes | Exception] = field(default_factory=asyncio.Queue)
    """What it will send; empty is its end."""
    got: bytearray = field(default_factory=bytearray)
    open_gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While not set it takes nothing."""
    closed: int = 0
    largest: int = 0
    broken: bool = False

    async def receive(self) -> bytes:
        item = await self.incoming.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def send(self, data: bytes) -> None:
        await self.open_gate.wait()
        if self.broken:
            raise StreamBrokenError("gone")
        self.largest = max(self.largest, len(data))
        self.got += data

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Ends:
    """A program's socket, the pod it talks to, and the relay between."""

    client: socket.socket
    stream: FakeStream
    flow: Flow
    task: asyncio.Task[None]
    state: list[ClientState]

    async def read(self) -> bytes:
        found = bytearray()
        while data := await asyncio.get_running_loop().sock_recv(self.client, 65536):
            found += data
        return bytes(found)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    """A real TCP connection over loopback; the program holds its socket unless the test says otherwise."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    client.setblocking(False)
    accepted.setblocking(False)
    state = [ClientState.HELD]
    stream = FakeStream()
    stream.open_gate.set()
    flow = Flow(accepted, stream, lambda: state[0])
    made = Ends(client, stream, flow, loop.create_task(relay(flow)), state)
    yield made
    client.close()
    made.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await made.task
    assert stream.closed == 1
    assert accepted.fileno() == -1


async def test_the_pod_ends_after_the_client(ends: Ends) -> None:
    await ends.write(b"question")
    ends.client.shutdown(socket.SHUT_WR)
    ends.stream.incoming.put_nowait(b"late ")
    await asyncio.sleep(0.05)  # longer than the first look at the client
    ends.stream.incoming.put_nowait(b"answer")
    ends.stream.incoming.put_nowait(b"")
    assert await asyncio.wait_for(ends.read(), 10) == b"late answer"
    await asyncio.wait_for(ends.task, 10)
    assert bytes(ends.stream.got) == b"question"
    assert (ends.flow.up, ends.flow.down) == (8, 11)


async def test_the_pod_ends_first(ends: Ends) -> None:
    ends.stream.incoming.put_nowait(b"all there is")
    ends.stream.incoming.put_nowait(b"")
    assert await asyncio.wait_for(ends.read(), 10) == b"all there is"
    await ends.write(b"too late, and no reason to reset")
    ends.client.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(ends.task, 10)


async def test_a_client_that_never_ends_is_left_after_a_while(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "LINGER", 0.05)
    ends.stream.incoming.put_nowait(b"")
    await asyncio.wait_for(ends.task, 10)


async def test_the_pod_breaks(ends: Ends) -> None:
    ends.stream.incoming.put_nowait(StreamBrokenError("gone"))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(ends.read(), 10)
    await asyncio.wait_for(ends.task, 10)


async def test_the_pod_breaks_while_the_client_sends_and_says_nothing(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "LINGER", 0.05)
    ends.stream.broken = True
    await ends.write(b"into the void")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(ends.read(), 10)
    await asyncio.wait_for(ends.task, 10)


async def test_the_client_resets(ends: Ends) -> None:
    relaying.reset_on_close(ends.client)
    ends.client.close()
    await asyncio.wait_for(ends.task, 10)


async def test_the_client_is_gone_after_its_end(ends: Ends) -> None:
    ends.state[0] = ClientState.LEFT
    ends.client.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(ends.task, 10)


async def test_where_the_kernel_cannot_tell_silence_decides(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "_LOOKS", (0.01,))
    monkeypatch.setattr(relaying, "SILENCE_LIMIT", 0.05)
    ends.state[0] = ClientState.UNKNOWN
    ends.client.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(ends.task, 10)


async def test_a_slow_pod_slows_the_client_and_gets_everything(ends: Ends) -> None:
    ends.stream.open_gate.clear()
    block = bytes(range(256)) * 4096
    sending = asyncio.create_task(ends.write(block * 32))
    done, _ = await asyncio.wait([sending], timeout=0.2)
    assert not done
    ends.stream.open_gate.set()
    await asyncio.wait_for(sending, 20)
    ends.client.shutdown(socket.SHUT_WR)
    ends.stream.incoming.put_nowait(b"")
    await asyncio.wait_for(ends.read(), 20)
    await asyncio.wait_for(ends.task, 10)
    assert bytes(ends.stream.got) == block * 32
    assert ends.stream.largest <= MAX_SEND


async def test_a_slow_client_slows_the_pod(ends: Ends) -> None:
    block = bytes(65536)
    for _ in range(1000):
        ends.stream.incoming.put_nowait(block)
    await asyncio.sleep(0.2)
    assert not ends.stream.incoming.empty()
    ends.stream.incoming.put_nowait(b"")
    assert len(await asyncio.wait_for(ends.read(), 20)) == 1000 * len(block)
