"""Way B of the overriding resolver: our server in /etc/resolv.conf, the original kept, a guard that puts it back."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from resolverd.errors import HostError
from resolverd.host import Applied, HostDns, Server

from .guard import Guard
from .host_facts import parse_resolv_conf
from .journal import Deed, Journal
from .resolv_conf import Author, Original, Ours, author_of, original_of, put_in, search_list
from .resolv_file import ResolvFile
from .undo import RESOLV_CONF, restore, undo

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
        now, original = self.file.read(), self.original()
        search, left_out = search_list(want.search, original.text or "", self.hostname())
        author = Author(os.getpid(), self.journal.folder)
        wanted = put_in(original, Ours(server.address, search), author)
        if now != wanted or self._guard is None or not self._guard.is_alive:
            if self._written is not None and now != self._written:
                self._fight()
            await asyncio.to_thread(self._write, wanted, original)
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
        await asyncio.to_thread(self._revert)

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

    def _write(self, wanted: str, original: Original) -> None:
        if self._guard is None or not self._guard.is_alive:
            self._dismiss_guard()
            self._guard = Guard.start(self.journal.folder, self._run)
            self.step("guarded")
        details = {"path": str(self.file.path), "target": str(self.file.target), "original": original.text}
        with self.journal.locked():
            self._check_author()
            self.journal.write(Deed(RESOLV_CONF, details, self._run))
            self.step("journalled")
            self.file.write(wanted)
        self._written = wanted
        self.step("written")

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
