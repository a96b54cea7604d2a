"""Way A of the overriding resolver: the questions to the host's name servers are redirected to ours by nftables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from resolverd.errors import HostError
from resolverd.host import Applied, HostDns
from resolverd.names import Address

from . import nft
from .nft_table import Redirection
from .resolv_conf import Original, nameservers_of
from .resolv_file import ResolvFile

MARK = 0x3264
"""The socket mark of our own questions. No bit of it is one that Kubernetes (0xc000), Tailscale (0xff0000), Calico or
Cilium (0xffff0f00) look at."""
FIGHT = 5.0
"""Shortest time between two times that a table somebody took from us is made again, in seconds."""


@dataclass(slots=True, eq=False)
class Redirect:
    """Everything is held by one child process, so the kernel undoes it whatever happens to us."""

    file: ResolvFile
    clock: Callable[[], float] = time.monotonic
    containers: bool = False
    """Also redirect what the host's containers ask; our server must not be on loopback then."""
    mark = MARK
    _owner: nft.Owner | None = None
    _want: Redirection | None = None
    _asked: frozenset[Address] = frozenset()
    """The name servers of the file when it was last looked at."""
    _last_fight: float = float("-inf")

    def original(self) -> Original:
        """The file is as it always was."""
        return Original(self.file.read())

    async def apply(self, want: HostDns) -> Applied:
        """Raises HostError when the table cannot be made, or is taken from us again and again."""
        redirection, notes = self._redirection(want)
        if self._owner is None:
            self._owner = nft.Owner(self.mark, self.containers)
        if not self._owner.is_alive or await nft.current() != redirection:
            if self._want == redirection:
                self._fight()
            await self._owner.hold(redirection)
        self._want = redirection
        return Applied(HostDns(want.link, redirection.servers, want.routing), notes)

    async def read(self) -> HostDns:
        """What is redirected by this process. Another's table is that one's, and goes with it."""
        if self._owner is None or not self._owner.is_alive:
            return HostDns()
        return HostDns(servers=(await nft.current()).servers)

    async def revert(self) -> None:
        self._want = None
        if self._owner is not None:
            self._owner.let_go()
            self._owner = None

    def disturbance(self) -> str:
        """Why the host may have lost what we did; empty when it has not."""
        if self._owner is None or self._want is None:
            return ""
        if not self._owner.is_alive:
            return "the process that holds our nftables table has ended"
        if self._nameservers() != self._asked:
            return f"{self.file.path} names other servers"
        return ""

    def _nameservers(self) -> frozenset[Address]:
        return frozenset(nameservers_of(self.original()))

    def _redirection(self, want: HostDns) -> tuple[Redirection, tuple[str, ...]]:
        """What is to be, and notes. HostError when containers are to be sent where they cannot go."""
        lost = next((server for server in want.servers if server.address.is_loopback), None)
        if self.containers and lost is not None:
            why = f"{lost.address}, on loopback, is not reached by containers"
            raise HostError("nftables", why, "let the DNS server listen elsewhere")
        by_version = {server.address.version: server for server in reversed(want.servers)}
        own = {server.address for server in want.servers}
        self._asked = self._nameservers()
        asked = self._asked - own
        missed = sorted(str(address) for address in asked if address.version not in by_version)
        notes = [f"{address} is still asked directly: our server has no address of its kind" for address in missed]
        if want.search:
            notes.append("single labels are not searched: the search list of /etc/resolv.conf stays as it is")
        redirected = frozenset(address for address in asked if address.version in by_version)
        versions = sorted({address.version for address in redirected})
        return Redirection(redirected, tuple(by_version[version] for version in versions)), tuple(notes)

    def _fight(self) -> None:
        now = self.clock()
        if now - self._last_fight < FIGHT:
            why = f"our table was taken away again within {FIGHT:g} s"
            raise HostError("nftables", why, "find out who ends the process nft, or use --backend none")
        self._last_fight = now
