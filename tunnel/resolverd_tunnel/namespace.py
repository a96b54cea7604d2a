"""A private, nameless network namespace where every address is local, with a TUN device as its only way out.

Whatever is sent into that device ends at ordinary kernel sockets: TCP, UDP and ICMP of both families. The namespace
lives in one thread and in the descriptors opened there, so it is gone when the process is.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import Self

from resolverd.errors import HostError

from .congestion import set_congestion_control
from .copying import CopyLoop, IsAlive
from .device_linux import MTU, open_tun
from .netlink import LOCAL, TABLE_LOCAL, Netlink, explain
from .offload import Wire
from .packet import Opening

log = logging.getLogger(__name__)

NAMESPACE, OFFLOAD = "namespace", "offload"
"""What the data path is called, without and with the kernel's help."""

_CLONE_NEWNET = 0x40000000
_TUN = "tun0"
_EVERYTHING = {socket.AF_INET: ip_network("0.0.0.0/0"), socket.AF_INET6: ip_network("::/0")}


class PrivateNamespace:
    """The namespace. Only the sockets are made in its thread; they may be used in any."""

    def __init__(self, tun: int, families: frozenset[socket.AddressFamily], thread: ThreadPoolExecutor) -> None:
        self.tun = tun
        """The descriptor of its TUN device, non-blocking."""
        self.families = families
        """What it can listen on."""
        self._thread = thread
        self.name = NAMESPACE
        self._wire: Wire | None = None

    @classmethod
    def create(cls, mtu: int = MTU) -> Self:
        """Make one; takes a few ms. Raises HostError when namespaces cannot be made here."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="namespace")
        try:
            tun, families = thread.submit(_build, mtu).result()
        except OSError as error:
            thread.shutdown()
            raise explain("private network namespace", error) from error
        except BaseException:
            thread.shutdown()
            raise
        return cls(tun, families, thread)

    def listen(self, family: socket.AddressFamily, port: int, backlog: int) -> socket.socket:
        """A non-blocking socket that accepts connections to ``port`` of every address of a family. OSError."""
        listener = self._thread.submit(socket.socket, family, socket.SOCK_STREAM).result()
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            set_congestion_control(listener)
            listener.bind(("", port))
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener

    def offload(self, device: int) -> None:
        """Have the kernel move segments between here and the host's device number ``device``. OSError: it cannot."""
        self._wire = Wire.lay(device, _TUN, lambda work: self._thread.submit(work).result())
        self.name = OFFLOAD

    def look(self) -> None:
        """Move segments ourselves once somebody has taken the kernel's way away. OSError."""
        if self._wire is None or self._wire.is_whole():
            return
        log.warning("segments are copied from now on: somebody deleted or changed the link that they went by")
        self._wire.cut()
        self._wire, self.name = None, NAMESPACE

    def packet_loop(self, host: int, is_alive: IsAlive, is_in_use: Callable[[Opening], bool]) -> CopyLoop:
        return CopyLoop(host, self.tun, is_alive)

    def ends(self, client: socket.socket) -> Opening:
        """Every address is local here, so the socket's own address is what was connected to."""
        (here, port), (there, there_port) = client.getsockname()[:2], client.getpeername()[:2]
        return Opening(ip_address(there), there_port, ip_address(here), port)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.cut()
        os.close(self.tun)
        self._thread.shutdown()


def _build(mtu: int) -> tuple[int, frozenset[socket.AddressFamily]]:
    """Runs in the namespace's thread, which stays in the namespace for good."""
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError("this would move the whole program into the namespace")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise _no_namespace(ctypes.get_errno())
    tun = open_tun(_TUN)
    netlink = Netlink()
    try:
        lo, ifindex = socket.if_nametoindex("lo"), socket.if_nametoindex(_TUN)
        netlink.set_link_up(lo)
        netlink.set_link_up(ifindex, mtu)
        families = frozenset(family for family in _EVERYTHING if _make_all_local(netlink, family, lo, ifindex))
    except OSError:
        os.close(tun)
        raise
    finally:
        netlink.close()
    return tun, families


def _make_all_local(netlink: Netlink, family: socket.AddressFamily, lo: int, tun: int) -> bool:
    """What comes in is for us whatever its address, and what we send goes out; False without this family.

    Without the changed order of the tables the answers to a client, whose address is "local" too, would stay inside.
    """
    everything = _EVERYTHING[family]
    try:
        netlink.add_route(everything, lo, kind=LOCAL, table=TABLE_LOCAL)
        netlink.add_route(everything, tun)
        netlink.prefer_outside(family)
    except OSError as error:
        if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES):
            return False
        raise
    return True


def _no_namespace(code: int) -> HostError:
    what = "private network namespace"
    if code == errno.EPERM:
        fix = "run as root; a container needs CAP_SYS_ADMIN; without a tunnel: --no-tunnel"
        return HostError(what, "CAP_SYS_ADMIN is missing", fix)
    fix = "see sysctl user.max_net_namespaces" if code == errno.ENOSPC else "the kernel needs CONFIG_NET_NS"
    return HostError(what, os.strerror(code), fix)
