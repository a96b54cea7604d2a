"""What differs between the operating systems that have a tunnel: the one place here that asks which one this is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from . import data_path
from .client_linux import ClientSockets, ClientState
from .device_linux import Device
from .host_routes import RouteTable
from .inside import Inside
from .packet import Opening
from .readdressed import Readdressed


class ClosableRouteTable(RouteTable, Protocol):
    def close(self) -> None: ...


class Clients(Protocol):
    """Tells what this host's programs have open, and what became of the one at the other end of a connection."""

    def state(self, ends: Opening) -> ClientState: ...

    def connections(self) -> list[Opening]: ...

    def close(self) -> None: ...


class UnknownClients:
    """Where the system cannot be asked."""

    def state(self, ends: Opening) -> ClientState:
        return ClientState.UNKNOWN

    def connections(self) -> list[Opening]:
        return []

    def close(self) -> None:
        """Nothing is open."""


class Changes(Protocol):
    """Notices that this host's links, addresses or routes have changed."""

    def close(self) -> None: ...


class UnknownChanges:
    """Where the system is not asked: what is looked at now and then has to do."""

    def close(self) -> None:
        """Nothing is open."""


def is_macos(system: str = sys.platform) -> bool:
    return system == "darwin"


def create_device(name: str) -> Device:
    """The tunnel's device. NoPermissionError, HostError."""
    if is_macos():
        from . import device_macos

        return device_macos.create_device(name)
    from . import device_linux

    return device_linux.create_device(name)


def open_route_table() -> ClosableRouteTable:
    """The host's routing table. OSError."""
    if is_macos():
        from .routes_macos import RouteCommands

        return RouteCommands()
    from .netlink import Netlink

    return Netlink()


def choose_inside(wanted: str, ifindex: int, routes: RouteTable) -> Inside:
    """Where connections end, see :mod:`resolverd_tunnel.data_path`. HostError, NoPermissionError."""
    if is_macos():
        from .device_macos import UTUN

        return Readdressed.create(ifindex, routes, UTUN)
    return data_path.choose(wanted, ifindex, routes)


def open_clients() -> Clients:
    """What knows the clients of connections. OSError."""
    return UnknownClients() if is_macos() else ClientSockets()


def watch_network(ifindex: int, on_change: Callable[[], None]) -> Changes:
    """Calls ``on_change`` when the network has changed, but for the device ``ifindex``. OSError."""
    if is_macos():
        return UnknownChanges()
    from .network_changes import NetworkChanges

    return NetworkChanges(ifindex, on_change)
