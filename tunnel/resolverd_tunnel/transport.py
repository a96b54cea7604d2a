"""Transports: ways from this host to a port of a pod. Built-ins stand in one ordered table; others are entry points."""

from __future__ import annotations

import pkgutil
import socket
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

from resolverd import plugins
from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.errors import ClusterError, UsageError

MAX_SEND = 128 * 1024 - 1
"""Most octets handed to :meth:`Stream.send` at once."""


class TransportError(ClusterError):
    """A pod could not be reached, for another reason than that it refused."""


class NoWayError(TransportError):
    """No pod can be reached: there is no way to the API server."""


class StreamBrokenError(ConnectionError):
    """The far side ended without having finished."""


class Stream(Protocol):
    """An open connection to a port of a pod. One task receives while another sends."""

    async def receive(self) -> bytes:
        """Some octets; empty at the far side's orderly end. StreamBrokenError."""
        ...

    async def send(self, data: bytes) -> None:
        """Send at most ``MAX_SEND`` octets; waits while the far side is slow. StreamBrokenError."""
        ...

    async def close(self) -> None:
        """Let go of it within about a second; idempotent."""
        ...


@runtime_checkable
class Delivering(Protocol):
    """A stream that can do more: what it receives goes to the client's socket without a stop on the way."""

    async def deliver(self, client: socket.socket, count: Callable[[int], None]) -> None:
        """Send ``client``, which does not block, what comes, until the far side's orderly end, instead of ``receive``.

        ``count`` is told how many octets were sent. StreamBrokenError, or OSError of ``client``.
        """
        ...


class Transport(Protocol):
    """One way to the pods, with one set of credentials."""

    name: str

    @property
    def trouble(self) -> str:
        """Why it cannot reach anything at the moment; empty when it can, as far as is known."""
        ...

    def hurry(self) -> None:
        """Look at once whether the way is still good: the host has woken up, or changed networks."""
        ...

    async def open(self, target: Target) -> Stream:
        """A stream to ``target`` that its pod has accepted. ConnectionRefusedError, or TransportError otherwise."""
        ...

    async def retire(self) -> None:
        """Wait until the streams that are open have ended, then let go of everything; nothing more is opened."""
        ...

    async def close(self) -> None:
        """Let go of everything now."""
        ...


Make = Callable[[Access, Callable[[], None]], Transport]
"""Makes a transport; the callback is called when the API server does not accept the credentials (401)."""

BUILT_IN: dict[str, str] = {
    "port-forward": "resolverd_tunnel.port_forward:PortForward",
}
"""Name -> what makes it, in the order in which ``auto`` takes them."""


def named(name: str) -> tuple[str, Make]:
    """The transport called ``name``, or the first for ``auto``: its real name, and what makes it.

    Raises UsageError when there is none of that name, PluginError when another package's cannot be used.
    """
    name = next(iter(BUILT_IN)) if name == "auto" else name
    if name in BUILT_IN:
        return name, cast(Make, pkgutil.resolve_name(BUILT_IN[name]))
    others = plugins.names(plugins.TRANSPORTS)
    if name not in others:
        known = ", ".join(("auto", *BUILT_IN, *others))
        raise UsageError("tunnel.transport", f"there is no transport {name}", f"one of: {known}")
    make = plugins.load(plugins.TRANSPORTS, name)
    if not callable(make):
        raise plugins.broken(name, TypeError("it is nothing that makes a transport"))
    return name, cast(Make, make)
