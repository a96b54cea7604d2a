"""What the tunnel process and the DNS process say to each other about who stands behind addresses.

The DNS process knows the whole cluster; the tunnel process asks for the part that its connections need, and is told
of every change of that.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cluster.snapshot import Change, Key
from .names import Address


@dataclass(frozen=True, slots=True)
class Follow:
    """From the tunnel process: say who stands behind these addresses, now and whenever it changes."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Unfollow:
    """From the tunnel process: these are not needed any more."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Behind:
    """From the DNS process. In this order: services to forget with all of their slices, changes, and the addresses
    of which everything has now been said; behind one that has no service there is nothing."""

    forgotten: tuple[Key, ...] = ()
    changes: tuple[Change, ...] = ()
    addresses: tuple[Address, ...] = ()
