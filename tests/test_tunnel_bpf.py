"""The programs that the kernel runs on packets: what they move is what the packet loop would, and unharmed."""

from __future__ import annotations

import pytest
from bpf_machine import Machine
from hypothesis import given
from hypothesis import strategies as st
from test_tunnel_packet import UDP, segment, v4, v6

from resolverd_tunnel import packet
from resolverd_tunnel.offload import inward, outward
from resolverd_tunnel.packet import Kind

JUDGED = outward(7, judged=True)
DATA4, DATA6 = v4(6, segment(0x10, b"data")), v6(6, segment(0x10, b"data"))


def goes_by(data: bytes) -> bool:
    """Whether the kernel moves ``data``, which is then as it was, in a frame."""
    machine = Machine(bytearray(data))
    verdict = machine.run(JUDGED)
    if machine.redirected is None:
        assert (verdict, bytes(machine.packet)) == (0, data)
        return False
    assert (verdict, machine.redirected) == (7, (7, 0))
    frame, carried = bytes(machine.packet[:14]), bytes(machine.packet[14:])
    assert carried == data
    assert (frame[:6], frame[12:]) == (frame[6:12], b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd")
    return True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DATA4, True),
        (DATA6, True),
        (v4(6, segment(0x10, bytes(60_000))), True),
        (v4(6, segment(0x10, options=bytes(12))), True),
        (v6(6, segment(0x11, options=bytes(40))), True),
        (v4(6, segment(0x04)), True),
        (v4(6, segment(0x10), fragment=0x4000), True),
        (v4(6, segment(0x02)), False),
        (v4(6, segment(0x12)), False),
        (v6(6, segment(0xC2)), False),
        (v4(6, segment(0x10), fragment=0x2000), False),
        (v4(6, segment(0x10), fragment=1), False),
        (v4(6, segment(0x10), options=bytes(4)), False),
        (v4(17, UDP), False),
        (v6(17, UDP), False),
        (v6(44, bytes(8) + segment(0x10)), False),
        (v4(1, bytes(24)), False),
        (DATA4[:-1], False),
        (DATA4 + b"\0", False),
        (DATA6[:-1], False),
        (DATA6 + b"\0", False),
        (DATA4[:39], False),
        (b"", False),
        (bytes(60), False),
        (b"\x54" + DATA4[1:], False),
    ],
)
def test_what_the_kernel_moves(data: bytes, expected: bool) -> None:
    assert goes_by(data) is expected


@given(st.integers(0, 15), st.booleans(), st.binary(max_size=80))
def test_a_header_of_tcp_fits_into_its_packet(words: int, six: bool, data: bytes) -> None:
    raw = bytearray(segment(0x10, data))
    raw[12] = words << 4
    made = v6(6, bytes(raw)) if six else v4(6, bytes(raw))
    assert goes_by(made) is (packet.classify(made, len(made)) is Kind.SEGMENT)


@given(
    st.one_of(
        st.binary(max_size=100), st.tuples(st.sampled_from([DATA4, DATA6]), st.integers(0, 63), st.integers(0, 255))
    )
)
def test_nothing_goes_by_that_we_would_not_have_moved(made: bytes | tuple[bytes, int, int]) -> None:
    if isinstance(made, tuple):
        data, place, octet = made
        made = data[:place] + bytes((octet,)) + data[place + 1 :]
    if goes_by(made):
        assert packet.classify(made, len(made)) is Kind.SEGMENT


def test_without_room_for_a_frame_it_comes_to_us() -> None:
    machine = Machine(bytearray(DATA4), has_room=False)
    assert (machine.run(JUDGED), machine.redirected, bytes(machine.packet)) == (0, None, DATA4)


def test_everything_that_the_namespace_sends_goes_by_and_is_received() -> None:
    for data in (v4(1, bytes(8)), v4(6, segment(0x12)), v6(6, segment(0x12)), v6(58, bytes(8))):
        machine = Machine(bytearray(data))
        assert (machine.run(outward(9, judged=False)), machine.redirected) == (7, (9, 0))
    machine = Machine(bytearray(14))
    assert (machine.run(inward(5)), machine.redirected) == (7, (5, 1))
