"""The TUN device on Linux: there while a process holds its descriptor, and not a moment longer."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from resolverd.errors import HostError, NoPermissionError, ResolverdError
from resolverd.names import Network

from .netlink import Netlink, explain

MTU = 65520
"""Octets. The cost of a packet in Python does not depend on its size, so packets are as big as they get; TCP ends
on this host, so the cluster's own MTU does not matter."""
ADDRESSES = ("198.18.53.1", "fd53:7265:736f:6c76::1")
"""The device's own, and the sources of what goes through it: of the benchmarking range, which nobody routes
(RFC 2544), and a ULA (RFC 4193)."""
PEER_NETWORKS: tuple[Network, ...] = (ip_network("198.18.53.2/31"), ip_network("fd53:7265:736f:6c76::2/127"))
"""The device's other end: routed to it where connections are readdressed, whatever else is."""
NAME_LIMIT = 15
"""Octets (IFNAMSIZ, less the zero at the end)."""
TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUN_NO_PI = 0x0001 | 0x1000


@dataclass(frozen=True, slots=True)
class Device:
    """A TUN device that is up."""

    name: str
    ifindex: int
    fd: int
    """Non-blocking; a packet a read and a packet a write, without a header."""
    addresses: tuple[str, ...]
    """Without prefix length."""

    def close(self) -> None:
        """Let go of it: with the last descriptor the device, its addresses and its routes are gone."""
        os.close(self.fd)


def create_device(name: str, mtu: int = MTU, addresses: Sequence[str] = ADDRESSES) -> Device:
    """Make the device ``name``, up, with ``addresses`` of scope global (systemd-resolved ignores lesser links).

    Not persistent. Raises NoPermissionError (not root) and HostError (no TUN, name taken or impossible).
    """
    fd = open_tun(name)
    try:
        ifindex = socket.if_nametoindex(name)
        netlink = Netlink()
        try:
            for address in addresses:
                _add_address(netlink, ifindex, address)
            netlink.set_link_up(ifindex, mtu)
        finally:
            netlink.close()
    except OSError as error:
        os.close(fd)
        raise explain(f"device {name}", error) from error
    except ResolverdError:
        os.close(fd)
        raise
    return Device(name, ifindex, fd, tuple(addresses))


def open_tun(name: str) -> int:
    """A non-blocking descriptor of a new TUN device in the calling thread's network namespace; it is down."""
    if not 0 < len(name.encode()) <= NAME_LIMIT or "/" in name or "%" in name or name.split() != [name]:
        raise HostError(f"device {name}", f"no name for a device: 1 to {NAME_LIMIT} octets", "set tunnel.device")
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        fix = "modprobe tun; in a container: --device /dev/net/tun"
        raise HostError(f"device {name}", f"there is no {TUN}", fix) from error
    except OSError as error:
        raise _refused(name, error) from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_NO_PI))
    except OSError as error:
        os.close(fd)
        raise _refused(name, error) from error
    return fd


def _add_address(netlink: Netlink, ifindex: int, address: str) -> None:
    interface = ip_interface(address)
    try:
        netlink.add_address(ifindex, interface)
    except OSError as error:
        disabled = error.errno in (errno.EACCES, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
        if interface.version == 6 and disabled:  # IPv6 is switched off: live without it
            return
        raise


def _refused(name: str, error: OSError) -> ResolverdError:
    what = f"device {name}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return NoPermissionError(what, "only root may make a TUN device", "run with sudo, or with --no-tunnel")
    if error.errno == errno.EBUSY:
        fix = "stop the other resolverd with resolverd down, or set tunnel.device to another name"
        return HostError(what, "the name is in use by another resolverd or VPN", fix)
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return HostError(what, "the kernel has no TUN driver", "modprobe tun")
    if error.errno == errno.EINVAL:
        return HostError(what, "another kind of link has this name", "set tunnel.device to another name")
    return HostError(what, error.strerror or str(error))
