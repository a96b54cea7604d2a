"""From a websocket to a client's socket without a stop: what is taken, what has to wait, and who is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from fakes import eventually

from resolverd_tunnel.port_forward_stream import PodError, PortForwardStream
from resolverd_tunnel.transport import StreamBrokenError

BLOCK = bytes(range(256)) * 128


@dataclass
class FakeWebsocket:
    """Says whether it is read from."""

    is_open: bool = True
    is_full: bool = False
    is_reading: bool = True

    def pause(self) -> None:
        self.is_reading = False

    def resume(self) -> None:
        self.is_reading = True


@dataclass
class FakeCarrier:
    websocket: FakeWebsocket = field(default_factory=FakeWebsocket)

    def send(self, data: bytes) -> None:
        raise AssertionError(data)

    async def let_go(self) -> None: ...


@dataclass
class Delivery:
    """A stream, the socket it delivers to, and the program's end of that."""

    stream: PortForwardStream
    websocket: FakeWebsocket
    ours: socket.socket
    program: socket.socket
    words: list[bool]
    count: int = 0

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.stream.deliver(self.ours, self.add))

    def add(self, octets: int) -> None:
        self.count += octets

    def receive(self, *blocks: bytes) -> None:
        """As if ``blocks`` had come at once, into a buffer that is used again."""
        buffers = [bytearray(block) for block in blocks]
        for buffer in buffers:
            self.stream.feed(memoryview(buffer))
        self.stream.fed()
        for buffer in buffers:
            buffer[:] = bytes(len(buffer))

    async def read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            found += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.program, 2**16), 10)
        return bytes(found)


@pytest.fixture
def delivery() -> Iterator[Delivery]:
    ours, program = socket.socketpair()
    ours.setblocking(False)
    program.setblocking(False)
    carrier, words = FakeCarrier(), list[bool]()
    stream = PortForwardStream(carrier, words.append)  # type: ignore[arg-type]
    with ours, program:
        yield Delivery(stream, carrier.websocket, ours, program, words)


async def test_what_comes_before_and_after_arrives_in_order(delivery: Delivery) -> None:
    delivery.receive(b"early ")
    task = delivery.start()
    await eventually(lambda: delivery.count == 6)
    delivery.receive(b"and ", b"", b"late")
    delivery.stream.end(b"")
    await asyncio.wait_for(task, 10)
    assert await delivery.read(14) == b"early and late"
    assert delivery.count == 14
    assert delivery.words == [True]


async def test_more_pieces_than_the_kernel_takes_in_one_call(delivery: Delivery) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    delivery.receive(*(b"%04d" % number for number in range(3000)))
    delivery.stream.end(b"")
    assert await delivery.read(12_000) == b"".join(b"%04d" % number for number in range(3000))
    await asyncio.wait_for(task, 10)


async def test_a_client_that_takes_nothing_stops_the_reading_and_loses_nothing(delivery: Delivery) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    sent = 0
    while delivery.websocket.is_reading:
        delivery.receive(BLOCK, BLOCK)
        sent += 2
    delivery.receive(BLOCK)  # was on the way
    delivery.stream.end(b"")
    await asyncio.sleep(0.05)
    assert not delivery.websocket.is_reading
    assert not task.done()
    assert await delivery.read((sent + 1) * len(BLOCK)) == BLOCK * (sent + 1)
    await asyncio.wait_for(task, 10)
    assert delivery.websocket.is_reading
    assert delivery.count == (sent + 1) * len(BLOCK)


async def test_what_waits_is_delivered_before_the_error(delivery: Delivery) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    delivery.receive(*[BLOCK] * 40)
    delivery.stream.say_error(b"connection reset by peer")
    assert await delivery.read(40 * len(BLOCK)) == BLOCK * 40
    with pytest.raises(PodError, match="reset by peer"):
        await asyncio.wait_for(task, 10)
    assert delivery.words == [True, False]
    assert not delivery.stream.is_broken


async def test_a_break_of_the_way_is_one(delivery: Delivery) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    delivery.stream.end(StreamBrokenError("gone"))
    with pytest.raises(StreamBrokenError, match="gone"):
        await asyncio.wait_for(task, 10)
    assert delivery.stream.is_broken


@pytest.mark.parametrize("blocks", [1, 40], ids=["at once", "while it waits"])
async def test_a_client_that_is_gone_is_not_the_streams_fault(delivery: Delivery, blocks: int) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    if blocks > 1:
        delivery.receive(*[BLOCK] * blocks)
    delivery.program.close()
    if blocks == 1:
        delivery.receive(BLOCK)
    with pytest.raises(OSError, match=r"pipe|reset") as caught:
        await asyncio.wait_for(task, 10)
    assert not isinstance(caught.value, StreamBrokenError)
    assert not delivery.stream.is_broken


async def test_whoever_stops_delivering_leaves_no_socket_behind(delivery: Delivery) -> None:
    task = delivery.start()
    await asyncio.sleep(0)
    delivery.receive(*[BLOCK] * 40)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not asyncio.get_running_loop().remove_writer(delivery.ours)
