"""Bursts of datagrams: both ways of taking them say the same, for both families."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator

import pytest

from resolverd.dns.burst import MAX_DATAGRAM, SIZE, Burst, MmsgBurst, PlainBurst, burst_of

V4, V6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def bound(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family, address = request.param
    with socket.socket(family, socket.SOCK_DGRAM) as end:
        end.bind((address, 0))
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        yield end


@pytest.fixture(params=["mmsg", "plain"])
def burst(request: pytest.FixtureRequest, bound: socket.socket) -> Burst:
    return MmsgBurst(bound, ctypes.CDLL(None, use_errno=True)) if request.param == "mmsg" else PlainBurst(bound)


@pytest.fixture
def clients(bound: socket.socket) -> Iterator[list[socket.socket]]:
    ends = [socket.socket(bound.family, socket.SOCK_DGRAM) for _ in range(3)]
    for end in ends:
        end.connect(bound.getsockname())
        end.settimeout(5)
    yield ends
    for end in ends:
        end.close()


def test_linux_has_the_fast_one(bound: socket.socket) -> None:
    assert isinstance(burst_of(bound), MmsgBurst)


def test_nothing_waits(burst: Burst) -> None:
    assert burst.receive() == 0
    burst.send()
    assert burst.lost == 0


def test_each_gets_its_own(burst: Burst, clients: list[socket.socket]) -> None:
    sizes = [0, 1, 12, 512, 4095, 4096]
    for size in sizes:
        for number, client in enumerate(clients):
            client.send(bytes((number,)) * size)
    count = burst.receive()
    assert count == len(sizes) * len(clients)
    # Some are left out and the order is another one: a reply goes to whom it was made for.
    for place in reversed(range(count)):
        if place % 5:
            burst.reply(place, b"re:" + burst.data(place)[:600])
    burst.send()
    for number, client in enumerate(clients):
        due = {size for n, size in enumerate(sizes) if (3 * n + number) % 5}
        said = {client.recv(65535) for _ in due}
        assert said == {b"re:" + bytes((number,)) * min(size, 600) for size in due}
    assert burst.lost == 0


def test_who_asked_can_be_told_later(burst: Burst, bound: socket.socket, clients: list[socket.socket]) -> None:
    for client in clients:
        client.send(b"?")
    peers = [burst.peer(place) for place in range(burst.receive())]
    assert peers == [client.getsockname() for client in clients]
    for client in clients:
        client.send(b"others")
    burst.receive()
    for peer, client in zip(peers, clients, strict=True):
        bound.sendto(b"late", peer)
        assert client.recv(10) == b"late"


def test_more_than_a_burst_waits(burst: Burst, clients: list[socket.socket]) -> None:
    for number in range(SIZE + 6):
        clients[0].send(number.to_bytes(2, "big"))
    seen = []
    while count := burst.receive():
        seen += [burst.data(place) for place in range(count)]
    assert seen == [number.to_bytes(2, "big") for number in range(SIZE + 6)]


def test_what_is_too_long_is_cut(burst: Burst, clients: list[socket.socket]) -> None:
    clients[0].send(bytes(9000))
    assert burst.receive() == 1
    assert burst.data(0) == bytes(MAX_DATAGRAM)


@pytest.mark.staged
def test_a_reply_that_cannot_leave_costs_no_other(
    burst: Burst, bound: socket.socket, clients: list[socket.socket]
) -> None:
    """Port 0 can ask, and cannot be answered."""
    address, port = bound.getsockname()[:2]
    with socket.socket(bound.family, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        if bound.family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, 7, 6)  # IPV6_CHECKSUM at offset 6
        clients[0].send(b"?")
        raw.sendto(struct.pack("!HHHH", 0, port, 9, 0) + b"?", (address, 0))
        clients[2].send(b"?")
    assert burst.receive() == 3
    assert burst.peer(1)[:2] == (address, 0)
    for place in range(3):
        burst.reply(place, bytes(5 + place))
    burst.send()
    assert burst.lost == 1
    assert [len(clients[number].recv(65535)) for number in (0, 2)] == [5, 7]


def test_an_error_is_told_and_the_socket_goes_on() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound, socket.socket(type=socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        bound.connect(gone.getsockname())
        bound.setblocking(False)
        gone.close()
        bound.send(b"to nobody")
        burst = burst_of(bound)
        with pytest.raises(ConnectionRefusedError):
            burst.receive()
        assert burst.receive() == 0
