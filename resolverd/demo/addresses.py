"""Handing out addresses: the same objects get the same addresses every time."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address
from itertools import count

from resolverd.names import Address, Network

_LONGEST_PREFIX = 63 - 5


class AddressesInUseError(Exception):
    """The address is not ours to give, or taken."""


class AddressPool:
    """The addresses of a network, but for its first (and, in IPv4, last) one."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._size = network.num_addresses - (2 if network.version == 4 else 1)
        self._taken: set[Address] = set()

    @property
    def family(self) -> str:
        """As the API spells it: ``IPv4`` or ``IPv6``."""
        return f"IPv{self.network.version}"

    def claim(self, text: str) -> str:
        """Take this one. AddressesInUseError."""
        try:
            address = ip_address(text)
        except ValueError:
            raise AddressesInUseError("must be a valid IP address") from None
        if address not in self.network:
            raise AddressesInUseError(f"the provided IP ({text}) is not in the valid range {self.network}")
        if address in self._taken:
            raise AddressesInUseError(f"provided IP is already allocated: {text}")
        self._taken.add(address)
        return str(address)

    def pick(self, start: int) -> str:
        """The first free address from the ``start``-th on, wrapping around. AddressesInUseError when all are taken."""
        if len(self._taken) >= self._size:
            raise AddressesInUseError("range is full")
        for step in count(start):
            address = self.network[1 + step % self._size]
            if address not in self._taken:
                self._taken.add(address)
                return str(address)
        raise AssertionError  # pragma: no cover  (count is endless)

    def release(self, text: str) -> None:
        self._taken.discard(ip_address(text))


def place(*words: str) -> int:
    """Where in a range an object of this name begins to look: spread out, and always the same."""
    return int.from_bytes(sha256("/".join(words).encode()).digest()[:6])


def generated_name(prefix: str, *words: str) -> str:
    """``prefix`` and five characters, as Kubernetes makes names: always the same for the same words.

    63 characters at most, whatever the prefix (SimpleNameGenerator of k8s.io/apiserver).
    """
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    digest = sha256("/".join(words).encode()).digest()
    return prefix[:_LONGEST_PREFIX] + "".join(alphabet[octet % len(alphabet)] for octet in digest[:5])
