"""Trying a name and a port as any program on this host would."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resolverd.errors import ResolverdError
from resolverd.host_lookup import addresses_of
from resolverd.names import address_of
from resolverd.options import split_endpoint

PAUSE = 0.2
"""Seconds between two tries."""
PATIENCE = 3.0
"""Seconds for one try."""
MOST_FOREIGN = 10
"""Answers of another after which it will not be ours that comes; fewer may be what was cached before."""
ROUNDS = 3
"""How often each of several services is tried."""


class _ForeignError(ResolverdError):
    """An answer that the cluster did not give."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries by the host's own resolver, or (``server``, ``ADDR:PORT``) by asking that DNS server."""

    server: str | None
    deadline: float
    """Of ``time.monotonic``."""
    alive: Callable[[], None]
    """Raises when there is no point in going on."""
    remedy: Callable[[], str]
    """What the daemon knows of why connections fail, or else what to look at."""
    own: str = ""
    """The daemon's DNS server, ``ADDR:PORT``: what the host's resolver says is only proof when that says it too."""

    def resolve(self, name: str) -> str:
        """An address of ``name``. ResolverdError when there is none until the deadline."""
        why, foreign = "no answer", 0
        while (left := self.deadline - time.monotonic()) > 0 and foreign < MOST_FOREIGN:
            self.alive()
            try:
                return _ask(name, self.server)[0] if self.server else self._by_host(name, min(left, PATIENCE))
            except OSError as error:
                why = str(error.strerror or error)
            except _ForeignError as error:
                why = error.why
                foreign += 1
            except ResolverdError as error:
                why = error.why
            time.sleep(PAUSE)
        fix = "see resolverd status" if self.server else "does /etc/resolv.conf lead to the resolver that was told?"
        raise ResolverdError(name, f"does not resolve: {why}", fix)

    def _by_host(self, name: str, longest: float) -> str:
        found = addresses_of(name, longest)
        if self.own and not set(found) & set(true := _ask(name, self.own)):
            why = f"the host's resolver says {found[0]}, the cluster {true[0]}"
            raise _ForeignError(name, f"{why}: another has answered, such as /etc/hosts or a VPN")
        return found[0]

    def connect_to_one_of(self, probes: Sequence[dict[str, Any]]) -> str:
        """The first ``NAME:PORT`` that accepts a connection. ResolverdError when none does."""
        said: list[str] = []
        for _ in range(ROUNDS):
            for probe in probes:
                self.alive()
                where, left = f"{probe['name']}:{probe['port']}", self.deadline - time.monotonic()
                if left <= 0:
                    break
                try:
                    address = self.resolve(probe["name"])
                    socket.create_connection((address, probe["port"]), timeout=min(left, PATIENCE)).close()
                except OSError as error:
                    said.append(f"{where}: {error.strerror or error}")
                else:
                    return where
            time.sleep(PAUSE)
        tried = "; ".join(list(dict.fromkeys(said))[: len(probes)])
        raise ResolverdError("no service accepts a connection", tried or "no time was left", self.remedy())


def _ask(name: str, server: str) -> list[str]:
    """The addresses ``server`` has for ``name``. ResolverdError when it has none."""
    from resolverd.dns import client

    host, port = split_endpoint(server)
    found: list[str] = []
    said = "NOERROR"
    for kind in ("A", "AAAA"):
        answer = client.query(host, port, name, kind)
        found += [text for text in answer.short() if address_of(text)]
        said = answer.rcode
    if not found:
        raise ResolverdError(name, f"the DNS server has no address for it ({said})")
    return found
