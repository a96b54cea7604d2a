"""The packet loop: what is moved, what is answered, what is dropped and counted; nothing that comes stops it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tunnel_packet import CLIENT4, POD4, UDP, segment, v4, v6

from resolverd.errors import HostError
from resolverd_tunnel import packet
from resolverd_tunnel.copying import _BUDGET, CopyLoop

SYN, DATA = v4(6, segment(0x02)), v4(6, segment(0x10, b"data"))
ECHO = v4(1, struct.pack("!BBHHH", 8, 0, 0, 7, 1))


@dataclass
class Between:
    """A loop, and the other ends of its two devices."""

    host: socket.socket
    private: socket.socket
    loop: CopyLoop
    admitted: list[bytes] = field(default_factory=list)
    alive: bool = True

    def given(self, *packets: bytes) -> None:
        """Have the loop read ``packets`` from the host."""
        for each in packets:
            self.host.send(each)
        self.loop._from_host()


def packets_at(end: socket.socket) -> list[bytes]:
    """What has arrived."""

    def read() -> Iterator[bytes]:
        while True:
            try:
                yield end.recv(70_000)
            except BlockingIOError:
                return

    return list(read())


@pytest.fixture
async def between() -> AsyncIterator[Between]:
    """Two ends of each device: datagrams stand in for packets."""
    ends = [*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    ends += socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    host, far_host, private, far_private = ends
    made: list[Between] = []
    loop = CopyLoop(far_host.fileno(), far_private.fileno(), lambda _: made[0].alive)
    made.append(Between(host, private, loop))
    loop.start(made[0].admitted.append)
    yield made[0]
    loop.stop()
    for end in ends:
        end.close()


async def test_segments_are_moved_and_openings_are_judged(between: Between) -> None:
    between.given(SYN, DATA, v6(6, segment(0x10)))
    assert packets_at(between.private) == [DATA, v6(6, segment(0x10))]
    assert (between.admitted, packets_at(between.host)) == ([SYN], [])
    between.private.send(DATA)
    between.loop._from_private()
    assert packets_at(between.host) == [DATA]


@pytest.mark.parametrize("to", ["224.0.0.251", "255.255.255.255"])
@pytest.mark.parametrize("protocol", [(17, UDP), (6, segment(0x02)), (1, ECHO[20:])])
async def test_groups_get_no_answer(between: Between, protocol: tuple[int, bytes], to: str) -> None:
    between.given(v4(*protocol, to=ip_address(to).packed))
    assert (packets_at(between.host), packets_at(between.private), between.admitted) == ([], [], [])
    assert between.loop.dropped == {"group": 1}


async def test_an_echo_is_for_the_kernel_where_somebody_is_there(between: Between) -> None:
    between.given(ECHO)
    assert (packets_at(between.private), packets_at(between.host)) == ([ECHO], [])
    between.alive = False
    between.given(ECHO)
    (answer,) = packets_at(between.host)
    assert (packet.source(answer), packet.destination(answer)) == (POD4, CLIENT4)
    assert answer[20:22] == b"\3\1"
    assert packets_at(between.private) == []


async def test_a_datagram_nobody_takes_is_answered(between: Between) -> None:
    between.given(v4(17, UDP))
    (answer,) = packets_at(between.host)
    assert answer[20:22] == b"\3\3"


async def test_many_packets_leave_others_their_turn(between: Between) -> None:
    between.given(*[DATA] * (_BUDGET + 10))
    assert len(packets_at(between.private)) == _BUDGET
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(packets_at(between.private)) == 10


async def test_a_device_that_is_gone_ends_it(between: Between) -> None:
    between.host.close()
    between.loop._read(-1)
    with pytest.raises(HostError, match="it is gone"):
        await between.loop.failed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=100), st.sampled_from([SYN, DATA, ECHO, v4(17, UDP)]))))
async def test_whatever_comes_the_next_connection_is_made(between: Between, packets: list[bytes]) -> None:
    broken = [each[:-1] or b"\0" for each in packets] + [b"\x45" + each[1:] for each in packets]
    for each in (*packets, *broken):
        between.given(each)
    packets_at(between.private)
    packets_at(between.host)
    between.admitted.clear()
    between.given(SYN, DATA)
    assert (between.admitted, packets_at(between.private)) == ([SYN], [DATA])
    assert not between.loop.failed.done()
