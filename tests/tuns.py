"""Links for the stage's systemd-resolved, and its command."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess

_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


def resolvectl(*arguments: str) -> str:
    return subprocess.run(["resolvectl", *arguments], check=True, timeout=10, capture_output=True, text=True).stdout


def open_tun(name: str, address: str) -> int:
    """A TUN link as resolved wants it: a holder, an address of scope global, up."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    ip("address", "add", address, "dev", name)
    ip("link", "set", name, "up")
    return descriptor
