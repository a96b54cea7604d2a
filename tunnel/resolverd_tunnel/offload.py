"""Segments move between the host's TUN device and the private namespace's inside the kernel, by a veth pair.

What leaves either device for our descriptor is looked at by a small eBPF program first. A TCP segment of an ordinary
shape is turned to the pair, and what comes out of the other end is received by the other device as if we had written
it there: both sides' routes, addresses and firewall rules see the two TUN devices and nothing else. Everything else
goes to our descriptor as before: SYNs above all, which the gate holds.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from . import bpf, device_linux
from .bpf import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, STACK
from .links import EGRESS, INGRESS, add_veth, carries, classify, peer_of, remove_link, stop_classifying
from .netlink import Netlink

log = logging.getLogger(__name__)

MTU = 4000
"""Octets, of both TUN devices. The kernel moves segments of 64 KiB whatever the MTU is, and puts a header before one
no longer than some 16,000 octets; of 1500, 4000, 9000 and 16,000 this was fastest (docs/performance.md)."""
WIRE_MTU = 65535
NAMES = "resolverd-w%d"
"""Of the pair's end in the host: the kernel puts a number."""
_INSIDE = "wire0"
_MAC = b"\x02RSLVD"
"""Of both ends: locally administered, and nobody else is on this wire."""

_LENGTH = 0
"""Offset of the packet's length in the context (struct __sk_buff)."""
_STORE, _REDIRECT, _MAKE_ROOM = 9, 23, 43
"""bpf_skb_store_bytes, bpf_redirect, bpf_skb_change_head."""
_OUT, _IN = 0, 1
"""Flags of bpf_redirect: sent by the device, received by it."""
_TO_US = 0
"""The verdict TC_ACT_OK: the packet goes on to the device, which is our descriptor."""
_FRAME = 14
_TCP, _SYN = 6, 0x02
_FRAGMENT = 0x3FFF
"""More fragments, or an offset; "don't fragment" is not among them."""

Run = Callable[[Callable[[], Any]], Any]
"""Runs something in the private namespace."""


def outward(wire: int, *, judged: bool) -> list[bpf.Instruction]:
    """For what a TUN device sends: onto the pair's end ``wire``, in an Ethernet frame.

    ``judged``: segments only, as :func:`resolverd_tunnel.packet.classify` has them, without SYN, IP options or
    extension headers. The private namespace's kernel sends nothing else, but ICMP.
    """
    frame = STACK, -16
    return bpf.assemble(
        [
            bpf.copy(R6, R1),
            bpf.load_word(R8, R6, _LENGTH),
            bpf.read_octet(0),
            bpf.copy(R7, R0),
            bpf.shift_right(R0, 4),
            bpf.jump_if(R0, 4, "v4"),
            bpf.jump_if(R0, 6, "v6"),
            bpf.jump("to us"),
            "v4",
            *(_judge_v4() if judged else ()),
            bpf.set_to(R9, socket.htons(0x0800)),
            bpf.jump("go"),
            "v6",
            *(_judge_v6() if judged else ()),
            bpf.set_to(R9, socket.htons(0x86DD)),
            "go",
            *(bpf.store_word(STACK, frame[1] + place, (_MAC * 2)[place : place + 4]) for place in (0, 4, 8)),
            bpf.store_pair(STACK, frame[1] + 12, R9),
            bpf.copy(R1, R6),
            bpf.set_to(R2, _FRAME),
            bpf.set_to(R3, 0),
            bpf.call(_MAKE_ROOM),
            bpf.jump_unless(R0, 0, "to us"),
            bpf.copy(R1, R6),
            bpf.set_to(R2, 0),
            bpf.copy(R3, STACK),
            bpf.add(R3, frame[1]),
            bpf.set_to(R4, _FRAME),
            bpf.set_to(R5, 0),
            bpf.call(_STORE),
            *_redirect(wire, _OUT),
            "to us",
            bpf.set_to(R0, _TO_US),
            bpf.EXIT,
        ]
    )


def _judge_v4() -> Iterator[bpf.Line]:
    yield bpf.jump_unless(R7, 0x45, "to us")
    yield bpf.read_pair(2)
    yield bpf.jump_unless_same(R0, R8, "to us")
    yield bpf.read_pair(6)
    yield bpf.keep_bits(R0, _FRAGMENT)
    yield bpf.jump_unless(R0, 0, "to us")
    yield bpf.read_octet(9)
    yield from _judge_segment(20)


def _judge_v6() -> Iterator[bpf.Line]:
    yield bpf.read_pair(4)
    yield bpf.add(R0, 40)
    yield bpf.jump_unless_same(R0, R8, "to us")
    yield bpf.read_octet(6)
    yield from _judge_segment(40)


def _judge_segment(header: int) -> Iterator[bpf.Line]:
    """R0 has the protocol."""
    yield bpf.jump_unless(R0, _TCP, "to us")
    yield bpf.read_octet(header + 12)
    yield bpf.shift_right(R0, 4)
    yield bpf.shift_left(R0, 2)
    yield bpf.add(R0, header)
    yield bpf.jump_if_less(R0, header + 20, "to us")
    yield bpf.jump_if_more_than(R0, R8, "to us")
    yield bpf.read_octet(header + 13)
    yield bpf.keep_bits(R0, _SYN)
    yield bpf.jump_unless(R0, 0, "to us")


def inward(tun: int) -> list[bpf.Instruction]:
    """For what comes out of the pair: the device ``tun`` receives it, without the frame."""
    return bpf.assemble(_redirect(tun, _IN))


def _redirect(device: int, direction: int) -> Iterator[bpf.Instruction]:
    yield bpf.set_to(R1, device)
    yield bpf.set_to(R2, direction)
    yield bpf.call(_REDIRECT)
    yield bpf.EXIT


@dataclass(slots=True)
class Wire:
    """The pair, and what turns segments to it. Gone with the private namespace."""

    device: int
    """The number of the host's TUN device."""
    end: int
    """The number of the pair's end in the host."""
    tun: str
    """The name of the private namespace's device."""
    run: Run

    @classmethod
    def lay(cls, device: int, tun: str, run: Run) -> Self:
        """Between the host's device ``device`` and ``tun``, the device where ``run`` runs things.

        OSError where the kernel does not have it or does not permit it; nothing is left then.
        """
        end = run(lambda: _make(tun))
        wire = cls(device, end, tun, run)
        try:
            with closing(Netlink()) as netlink:
                netlink.set_link_up(end, WIRE_MTU)
                _attach(netlink, end, INGRESS, inward(device))
                run(lambda: _turn_inside(tun))
                _turn(netlink, device, end, judged=True)
        except OSError:
            wire.cut()
            raise
        return wire

    def is_whole(self) -> bool:
        """Whether the pair is still there, up, and wide enough: anybody may delete it, or change it. OSError."""
        with closing(Netlink()) as netlink:
            return carries(netlink, self.end, WIRE_MTU)

    def cut(self) -> None:
        """Let everything come to our descriptors again, from now on, and remove the pair."""
        release(self.device)
        self.run(lambda: release(socket.if_nametoindex(self.tun)))
        with closing(Netlink()) as netlink, _whether_there_or_not():
            remove_link(netlink, self.end)


def release(device: int) -> None:
    """Let everything that a TUN device sends come to its descriptor, in packets as large as they get.

    The host's outlives its processes: one that was killed left its program there, which turns segments to nowhere.
    """
    with closing(Netlink()) as netlink, _whether_there_or_not():
        netlink.set_link_up(device, device_linux.MTU)
        stop_classifying(netlink, device)


def _make(tun: str) -> int:
    """In the private namespace: the pair, its end here up and leading to ``tun``. The number of its other end."""
    with closing(Netlink()) as netlink:
        add_veth(netlink, _INSIDE, NAMES, os.getpid(), _MAC)
        here = socket.if_nametoindex(_INSIDE)
        try:
            netlink.set_link_up(here, WIRE_MTU)
            _attach(netlink, here, INGRESS, inward(socket.if_nametoindex(tun)))
            return peer_of(netlink, here)
        except OSError:
            remove_link(netlink, here)
            raise


def _turn(netlink: Netlink, tun: int, wire: int, *, judged: bool) -> None:
    """What the device ``tun`` sends goes onto the pair's end ``wire``."""
    _attach(netlink, tun, EGRESS, outward(wire, judged=judged))
    netlink.set_link_up(tun, MTU)


def _turn_inside(tun: str) -> None:
    with closing(Netlink()) as netlink:
        _turn(netlink, socket.if_nametoindex(tun), socket.if_nametoindex(_INSIDE), judged=False)


def _attach(netlink: Netlink, device: int, hook: int, code: list[bpf.Instruction]) -> None:
    program = bpf.load(code)
    try:
        classify(netlink, device, hook, program)
    finally:
        os.close(program)


@contextmanager
def _whether_there_or_not() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            log.warning("the kernel's way for segments: %s", error.strerror)
