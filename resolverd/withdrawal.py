"""Whether we are to blame for a public name that does not resolve any more, and what is told of it. Pure.

A name is asked of the host's resolver; only when that fails, of the host's own name server too, past us. Both in a
row, twice: then everything is taken back. A host that is offline, or in a network that knows no public names, gives
no evidence: there the name server fails as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import one_line
from .host import HostDns
from .names import is_under, labels

NAMES = ("example.com", "example.org", "example.net")
"""Asked in turn. Reserved by IANA (RFC 2606), always there, and they say nothing about who asks."""
STRIKES = 2
"""Failures in a row that are evidence; one is a network that is just changing."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody said when asked for a name's address."""

    by: str
    address: str = ""
    """Empty: there was none."""
    why: str = ""
    """Why there was none."""

    def __str__(self) -> str:
        return one_line(f"{self.by} says {self.address or self.why}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why everything was taken back."""

    since: float
    """Unix time, in seconds."""
    name: str
    through: Said
    direct: Said
    domains: tuple[str, ...]
    """Those of our domains that the name was under; mostly the culprits."""
    again: float
    """Unix time, in seconds, at which the plan is tried again."""

    def __str__(self) -> str:
        held = f"our link has ~{', ~'.join(self.domains)}" if self.domains else "none of our domains covers it"
        return f"{self.name} did not resolve {STRIKES} times in a row: {self.through}, {self.direct}; {held}"

    @property
    def fix(self) -> str:
        """What the user can do."""
        cause = (
            "remove what brings in that domain (include-suffixes, allow-collisions)" if self.domains else "see the log"
        )
        return f"{cause}, then resolverd down and up, or SIGHUP; tried again by itself at {_moment(self.again)}"

    def to_json(self) -> dict[str, object]:
        """The value of ``withdrawn`` in the status document's ``host``."""
        return {
            "since": _moment(self.since),
            "evidence": str(self),
            "name": self.name,
            "domains": list(self.domains),
            "again": _moment(self.again),
        }


class Suspicion:
    """Counts the failures in a row of one name at a time."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self._names = names
        self._turn = 0
        self._strikes = 0

    @property
    def name(self) -> str:
        """The one to ask for next: another each time, but one that failed is asked for again."""
        return self._names[self._turn % len(self._names)]

    @property
    def pending(self) -> bool:
        """Whether one more failure would be enough."""
        return self._strikes > 0

    def judge(self, through: Said, direct: Said | None) -> bool:
        """Take in one look; True when it is the evidence. ``direct`` is None where nobody was asked."""
        if through.address or direct is None or not direct.address:
            self._turn += 1
            self._strikes = 0
            return False
        self._strikes += 1
        if self._strikes < STRIKES:
            return False
        self._strikes = 0
        return True


def covering(dns: HostDns, name: str) -> tuple[str, ...]:
    """The domains of ``dns`` that route ``name`` to our link."""
    asked = labels(name)
    return tuple(domain for domain in (*dns.search, *dns.routing) if is_under(asked, labels(domain)))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
