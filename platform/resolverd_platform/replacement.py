"""Way B of the overriding resolver: our server in /etc/resolv.conf, the original kept, a guard that puts it back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from resolverd.errors import HostError
from resolverd.host import Applied, HostDns, Server
from resolverd.names import Address

from .guard import Guard
from .host_facts import parse_resolv_conf
from .journal import Deed, Journal
from .resolv_conf import Author, Original, Ours, author_of, original_of, put_in, search_list
from .resolv_file import ResolvFile
from .undo import RESOLV_CONF, restore, undo

T = TypeVar("T")

DNS_PORT = 53
FIGHT = 5.0
"""Shortest time between two times that what another program wrote is written over, in seconds."""


@dataclass(slots=True, eq=False)
class Replacement:
    """Writes the file, and writes it again when another program did; never more often than every ``FIGHT`` seconds."""

    file: ResolvFile
    journal: Journal
    clock: Callable[[], float] = time.monotonic
    step: Callable[[str], None] = lambda name: None
    """Called between any two changes of the host: where a kill would find it."""
    hostname: Callable[[], str] = socket.gethostname
    mark = 0
    _run: str = field(default_factory=lambda: secrets.token_hex(8))
    _guard: Guard | None = None
    _written: str | None = None
    """What we put there last."""
    _last_fight: float = float("-inf")

    def original(self) -> Original:
        """The file as it would be without us."""
        text = self.file.read()
        return (original_of(text) if text is not None else None) or Original(text)

    async def apply(self, want: HostDns) -> Applied:
        """Raises HostError while another program keeps rewriting the file."""
        server = next((each for each in want.servers if each.port == DNS_PORT), None)
        if server is None:
            fix = "let the DNS server listen on port 53: --dns-listen 127.0.53.53:53"
            raise HostError(str(self.file.path), "it can name servers on port 53 only", fix)
        now = self.file.read()
        wanted, _, left_out = self._wanted(server.address, want)
        if now != wanted or self._guard is None or not self._guard.is_alive:
            if self._written is not None and now != self._written:
                self._fight()
            left_out = await _to_the_end(lambda: self._write(server.address, want))
        notes = tuple(f"no room to search {name}: old programs read six domains" for name in left_out)
        reached = HostDns(want.link, (server,), want.routing, tuple(n for n in want.search if n not in left_out))
        return Applied(reached, notes)

    async def read(self) -> HostDns:
        """What the file says while our server is in it; routing domains are no matter of a file."""
        text = self.file.read() or ""
        if author_of(text) is None:
            return HostDns()
        search, addresses = parse_resolv_conf(text)
        return HostDns(servers=tuple(map(Server, addresses)), search=search)

    async def revert(self) -> None:
        await _to_the_end(self._revert)

    def disturbance(self) -> str:
        """Why the host may have lost what we did; empty when it has not."""
        if self._written is None:
            return ""
        if self.file.read() != self._written:
            return f"{self.file.path} was rewritten by another program"
        if self._guard is None or not self._guard.is_alive:
            return "the guard of the resolver's file has ended"
        return ""

    def _fight(self) -> None:
        now = self.clock()
        if now - self._last_fight < FIGHT:
            why = f"another program has rewritten it again within {FIGHT:g} s"
            raise HostError(str(self.file.path), why, f"stop that program: fuser -v {self.file.target}")
        self._last_fight = now

    def _wanted(self, server: Address, want: HostDns) -> tuple[str, Original, tuple[str, ...]]:
        """The file as it is to be, as it would be without us, and the search domains that there is no room for."""
        original = self.original()
        search, left_out = search_list(want.search, original.text or "", self.hostname())
        author = Author(os.getpid(), self.journal.folder)
        return put_in(original, Ours(server, search), author), original, left_out

    def _write(self, server: Address, want: HostDns) -> tuple[str, ...]:
        """Write the file; the search domains that there was no room for."""
        if self._guard is None or not self._guard.is_alive:
            self._dismiss_guard()
            self._guard = Guard.start(self.journal.folder, self._run)
            self.step("guarded")
        with self._alone():
            self._check_author()
            # Not before: a guard takes its time, and what another program writes meanwhile is the original.
            wanted, original, left_out = self._wanted(server, want)
            details = {"path": str(self.file.path), "target": str(self.file.target), "original": original.text}
            self.journal.write(Deed(RESOLV_CONF, details, self._run))
            self.step("journalled")
            self.file.write(wanted)
        self._written = wanted
        self.step("written")
        return left_out

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Alone with the journal. HostError where there can be none."""
        try:
            with self.journal.locked():
                yield
        except FileNotFoundError as error:
            fix = "resolverd down, then resolverd up"
            raise HostError(f"state directory {self.journal.folder}", "it is gone", fix) from error

    def _check_author(self) -> None:
        author = author_of(self.file.read() or "")
        if author is not None and author.folder != self.journal.folder:
            fix = f"resolverd down --state-dir {author.folder}"
            raise HostError(str(self.file.path), "another resolverd has put itself there", fix)

    def _revert(self) -> None:
        self._written = None
        try:
            if self.journal.folder.is_dir():
                with self.journal.locked():
                    undo(self.journal, self.step)
            author = author_of(self.file.read() or "")
            if author is not None and author.folder == self.journal.folder:  # the journal was lost
                restore(self.file.path)
        finally:
            self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None


async def _to_the_end(work: Callable[[], T]) -> T:
    """What ``work`` returns, done in a thread; who is cancelled waits for it: nothing may be done to the host later."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
