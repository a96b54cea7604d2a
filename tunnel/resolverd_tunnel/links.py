"""veth pairs, and eBPF programs that say where a link's packets go (veth(4), tc-bpf(8)). OSError from the kernel."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from .netlink import CREATE, EXCL, NEWLINK, REPLACE, Netlink, link
from .netlink_socket import attribute, attributes

INGRESS, EGRESS = 0xFFF2, 0xFFF3
"""Where packets are looked at: received ones, and those to be sent (linux/pkt_sched.h)."""

_DELLINK, _GETLINK = 17, 18
_NEWQDISC, _DELQDISC, _NEWTFILTER = 36, 37, 44
_MAC, _NAME, _MTU, _LINK, _KIND, _PROCESS = 1, 3, 4, 5, 18, 19
"""Attributes of a link (linux/if_link.h)."""
_UP = 1
_CLSACT = 0xFFFFFFF1
_HANDLE = 0xFFFF0000
_PRIORITY = 1 << 16
_PROGRAM, _PROGRAM_NAME, _FLAGS = 6, 7, 8
_VERDICT = 1
"""TCA_BPF_FLAG_ACT_DIRECT: what the program returns is what happens."""


def add_veth(netlink: Netlink, name: str, peer: str, process: int, mac: bytes) -> None:
    """A pair: ``name`` here, ``peer`` in ``process``'s namespace, where ``%d`` becomes a number; both with ``mac``."""
    there = (
        attribute(_NAME, peer.encode() + b"\0") + attribute(_MAC, mac) + attribute(_PROCESS, struct.pack("=I", process))
    )
    kind = attribute(1, b"veth\0") + attribute(2, attribute(1, link(0) + there))
    here = attribute(_NAME, name.encode() + b"\0") + attribute(_MAC, mac) + attribute(_KIND, kind)
    netlink.act(NEWLINK, CREATE | EXCL, link(0) + here)


def peer_of(netlink: Netlink, ifindex: int) -> int:
    """The number of a pair's other end, where that is."""
    found = dict(attributes(netlink.ask(_GETLINK, link(ifindex))[len(link(0)) :]))
    number: int = struct.unpack("=I", found[_LINK])[0]
    return number


def carries(netlink: Netlink, ifindex: int, mtu: int) -> bool:
    """Whether there is a link of this number, up, that takes packets of ``mtu`` octets."""
    try:
        answer = netlink.ask(_GETLINK, link(ifindex))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    (flags,) = struct.unpack_from("=I", answer, 8)
    (size,) = struct.unpack("=I", dict(attributes(answer[len(link(0)) :]))[_MTU])
    return bool(flags & _UP) and size >= mtu


def remove_link(netlink: Netlink, ifindex: int) -> None:
    """ENODEV when it is not there."""
    netlink.act(_DELLINK, 0, link(ifindex))


def classify(netlink: Netlink, ifindex: int, hook: int, program: int) -> None:
    """Have the program with the descriptor ``program`` look at packets; it takes the place of an earlier one."""
    with contextlib.suppress(FileExistsError):
        netlink.act(_NEWQDISC, CREATE | EXCL, _traffic(ifindex, _HANDLE, _CLSACT) + attribute(1, b"clsact\0"))
    options = attribute(_PROGRAM, struct.pack("=I", program)) + attribute(_PROGRAM_NAME, b"resolverd\0")
    options += attribute(_FLAGS, struct.pack("=I", _VERDICT))
    every = _PRIORITY | socket.htons(0x0003)  # ETH_P_ALL
    head = _traffic(ifindex, 1, _HANDLE | hook, every)
    netlink.act(_NEWTFILTER, CREATE | REPLACE, head + attribute(1, b"bpf\0") + attribute(2, options))


def stop_classifying(netlink: Netlink, ifindex: int) -> None:
    """No program looks at the link's packets any more. ENOENT or EINVAL when none did."""
    netlink.act(_DELQDISC, 0, _traffic(ifindex, _HANDLE, _CLSACT))


def _traffic(ifindex: int, handle: int, parent: int, info: int = 0) -> bytes:
    """struct tcmsg."""
    return struct.pack("=BxxxiIII", 0, ifindex, handle, parent, info)
