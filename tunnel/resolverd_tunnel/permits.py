"""Which addresses may be routed: what ``HostRoutes`` says, prepared to be asked for every address that is answered."""

from __future__ import annotations

from collections.abc import Iterable

from resolverd.host import HostRoutes
from resolverd.names import Address, Network
from resolverd.routes import FIXED


class Permits:
    """What one value of ``HostRoutes`` permits. To ask costs as much as it has lengths of prefixes, not networks."""

    def __init__(self, routes: HostRoutes) -> None:
        self._allowed = _Prefixes((network, "") for network in routes.allowed)
        self._never = _Prefixes(routes.never)

    def withheld(self, address: Address) -> str:
        """Why ``address`` may not be routed; empty when it may. The most specific decides, ``never`` on a tie."""
        if (fixed := _FIXED.longest(address)) is not None:
            return fixed[1]
        allowed, never = self._allowed.longest(address), self._never.longest(address)
        if allowed is None:
            return "outside-cluster-ranges"
        return never[1] if never is not None and never[0] >= allowed[0] else ""


class _Prefixes:
    """Networks, each with a text."""

    def __init__(self, networks: Iterable[tuple[Network, str]]) -> None:
        self._tables: dict[tuple[int, int], dict[int, str]] = {}
        """By IP version and prefix length; the first bits of each network, and its text."""
        for network, text in networks:
            table = self._tables.setdefault((network.version, network.prefixlen), {})
            table.setdefault(int(network.network_address) >> network.max_prefixlen - network.prefixlen, text)
        self._lengths = {version: sorted(self._of(version), reverse=True) for version in (4, 6)}

    def _of(self, version: int) -> list[int]:
        return [length for its, length in self._tables if its == version]

    def longest(self, address: Address) -> tuple[int, str] | None:
        """The prefix length and the text of the most specific network around ``address``."""
        number, version = int(address), address.version
        for length in self._lengths[version]:
            text = self._tables[version, length].get(number >> address.max_prefixlen - length)
            if text is not None:
                return length, text
        return None


_FIXED = _Prefixes(FIXED)
