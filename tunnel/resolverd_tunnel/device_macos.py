"""The utun device of macOS: there while a process holds its control socket.

Never run on a Mac (docs/adr/0009-macos.md). After <sys/kern_control.h>, <net/if_utun.h> and ifconfig(8). Its packets
have the address family in front, four octets in network order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Protocol

from resolverd.errors import HostError, NoPermissionError, ResolverdError

from .copying import Framing
from .device_linux import ADDRESSES, MTU, Device
from .programs import IFCONFIG, Finished, run_program
from .readdressed import PEERS

AF_SYSTEM, SYSPROTO_CONTROL, UTUN_OPT_IFNAME = 32, 2, 2
CTLIOCGINFO = 0xC0644E03
CONTROL = b"com.apple.net.utun_control"
_NAME = re.compile(r"utun(\d{1,4})")
_NAME_SIZE = 16
_FAMILIES = {4: struct.pack("!I", 2), 6: struct.pack("!I", 30)}
"""AF_INET and AF_INET6 of macOS, by IP version."""
_HEADER = 4


class ControlSocket(Protocol):
    """What is needed of a socket."""

    def fileno(self) -> int: ...

    def connect(self, address: Any, /) -> None: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...

    def setblocking(self, blocking: bool, /) -> None: ...

    def detach(self) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is asked of macOS."""

    open_socket: Callable[[int, int, int], ControlSocket] = socket.socket
    ioctl: Callable[[int, int, bytes], Any] = fcntl.ioctl
    number: Callable[[str], int] = socket.if_nametoindex
    run: Callable[[Sequence[str]], Finished] = run_program


MACOS = Kernel()


def create_device(name: str, mtu: int = MTU, addresses: Sequence[str] = ADDRESSES, kernel: Kernel = MACOS) -> Device:
    """Make a utun device, up, with ``addresses``, the other end being the peers of readdressing.

    A ``name`` like utun7 is taken if it is free; with any other the kernel chooses, since it allows no others.
    Raises NoPermissionError (not root) and HostError.
    """
    wanted = _NAME.fullmatch(name)
    control = _connect(name if wanted else "utun", int(wanted[1]) + 1 if wanted else 0, kernel)
    try:
        control.setblocking(False)
        given = control.getsockopt(SYSPROTO_CONTROL, UTUN_OPT_IFNAME, _NAME_SIZE).split(b"\0")[0].decode()
        ifindex = kernel.number(given)
        for address, peer in zip(addresses, PEERS, strict=True):
            _configure(given, address, peer, kernel)
        _ifconfig(kernel, given, "mtu", str(mtu), "up")
    except OSError as error:
        control.close()
        raise _explained(name, error) from error
    except ResolverdError:
        control.close()
        raise
    return Device(given, ifindex, control.detach(), tuple(addresses))


def _connect(name: str, unit: int, kernel: Kernel) -> ControlSocket:
    """A control socket of a new device; unit 0 is any, others are one more than the number in the name."""
    try:
        control = kernel.open_socket(AF_SYSTEM, socket.SOCK_DGRAM, SYSPROTO_CONTROL)
    except OSError as error:
        raise _explained(name, error) from error
    try:
        info = kernel.ioctl(control.fileno(), CTLIOCGINFO, struct.pack("=I96s", 0, CONTROL))
        control.connect((struct.unpack_from("=I", info)[0], unit))
    except OSError as error:
        control.close()
        raise _explained(name, error) from error
    return control


def _configure(name: str, address: str, peer: str, kernel: Kernel) -> None:
    if ip_address(address).version == 4:
        _ifconfig(kernel, name, "inet", address, peer, "netmask", "255.255.255.255")
        return
    with contextlib.suppress(HostError):  # IPv6 is switched off: live without it
        _ifconfig(kernel, name, "inet6", address, "prefixlen", "128", "alias")


def _ifconfig(kernel: Kernel, *arguments: str) -> None:
    finished = kernel.run([IFCONFIG, *arguments])
    if finished.code:
        raise HostError(f"device {arguments[0]}", finished.said or f"ifconfig ended with {finished.code}")


def _explained(name: str, error: OSError) -> ResolverdError:
    what = f"device {name}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return NoPermissionError(what, "only root may make a utun device", "run with sudo, or with --no-tunnel")
    if error.errno == errno.EBUSY:
        return HostError(what, "the name is in use by another VPN", "set tunnel.device to another name, or to utun")
    return HostError(what, error.strerror or str(error))


def _receive(descriptor: int, buffer: bytearray) -> int:
    """The length of the packet, its family taken away by the way."""
    return max(0, os.readv(descriptor, [bytearray(_HEADER), buffer]) - _HEADER)


def _send(descriptor: int, data: bytes | memoryview) -> int:
    return os.writev(descriptor, [_FAMILIES[data[0] >> 4], data])


UTUN = Framing(_receive, _send)
