"""What the tunnel process meets of the DNS process: one that knows a cluster, and says what it is asked."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from resolverd.cluster.snapshot import Change, fold
from resolverd.dns.behind_server import BehindServer
from resolverd.dns.index import RecordIndex
from resolverd.sockets import message_pair


@dataclass(eq=False)
class DnsSide:
    """At ``end`` of the pair."""

    end: socket.socket
    index: RecordIndex = field(default_factory=RecordIndex)
    server: BehindServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = BehindServer(self.end, self.index)

    @classmethod
    def made(cls) -> tuple[socket.socket, DnsSide]:
        """The tunnel's end, and the other one's owner."""
        ours, theirs = message_pair()
        return ours, cls(theirs)

    def learn(self, changes: Iterable[Change] = (), *, synced: bool = True) -> None:
        """The cluster is another one."""
        before = self.index.snapshot
        after, touched = fold(before, changes, synced=synced, serial=1)
        self.index.update(after, touched)
        self.server.look(before, touched)

    def close(self) -> None:
        self.server.close()
