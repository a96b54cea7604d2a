"""Notices that links, addresses or routes of this host have changed, but for those of our own device."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable

from .netlink_socket import attributes, messages

log = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds to wait for more: joining a network is a dozen messages."""
_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_LINKS, _ADDRESSES, _ROUTES = (16, 17), (20, 21), (24, 25)
"""Kinds of message: something new, something gone (rtnetlink(7))."""
_OIF = 4


class NetworkChanges:
    """Calls ``on_change`` a moment after something changed, until closed. OSError when the kernel does not tell."""

    def __init__(self, own: int, on_change: Callable[[], None]) -> None:
        """``own`` is the number of the device whose changes are ours."""
        self._own = own
        self._on_change = on_change
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE))
        self._timer: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        if self._timer:
            self._timer.cancel()

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
            changed = any(self._is_foreign(kind, body) for kind, _, _, body in messages(data))
        except BlockingIOError:
            return
        except OSError as error:  # more than fits: something has changed for sure
            log.debug("changes of the network: %s", error)
            changed = True
        if changed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._on_change()

    def _is_foreign(self, kind: int, body: bytes) -> bool:
        if kind in (*_LINKS, *_ADDRESSES):
            return bool(struct.unpack_from("=i", body, 4)[0] != self._own)
        if kind in _ROUTES:
            device = dict(attributes(body[12:])).get(_OIF, bytes(4))
            return bool(struct.unpack("=I", device)[0] != self._own)
        return False
