"""What was answered, counted by type, code and rule: one addition for each answer, summed when somebody asks. Pure.

Every prepared reply holds the Tally that it counts under, so that the fast path looks nothing up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from .claims import Elsewhere
from .records import Name, Rcode, Type, text_labels
from .rules import DnsConfig

MALFORMED = "malformed"
REFUSED = "refused"
NOT_READY = "not-ready"
UPSTREAM, CLUSTER_DNS = "upstream", "cluster-dns"
"""What others said."""
OTHER = "OTHER"
"""Types without a name of their own here: a stranger must not make a series for each of 65,536."""
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
"""Upper bounds of the latency buckets, in seconds; one more bucket is for what took longer."""


@dataclass(slots=True, eq=False)
class Tally:
    """Answers of one type, code and rule."""

    kind: str
    rcode: Rcode
    rule: str
    answered: int = 0
    """Made for the question."""
    again: int = 0
    """Repeated from the memo."""


class Tallies:
    """All of them; there are a few dozen at most."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[int, Rcode, str], Tally] = {}

    def of(self, kind: int, rcode: Rcode, rule: str) -> Tally:
        """The one that such answers count under."""
        key = (kind if kind in _NAMES else 0, rcode, rule)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally(_NAMES.get(kind, OTHER), rcode, rule)
        return found

    @property
    def queries(self) -> int:
        return sum(each.answered + each.again for each in self._tallies.values())

    @property
    def hits(self) -> int:
        return sum(each.again for each in self._tallies.values())

    @property
    def others_again(self) -> int:
        """Repeated answers of others."""
        return sum(each.again for each in self._tallies.values() if each.rule in (UPSTREAM, CLUSTER_DNS))

    @property
    def rcodes(self) -> dict[str, int]:
        """Answers by the names of their codes; those that never occurred are left out."""
        counts: dict[Rcode, int] = {}
        for each in self._tallies.values():
            counts[each.rcode] = counts.get(each.rcode, 0) + each.answered + each.again
        return {rcode.name: counts[rcode] for rcode in sorted(counts) if counts[rcode]}

    def to_json(self) -> list[dict[str, object]]:
        return [
            {"type": each.kind, "rcode": each.rcode.name, "rule": each.rule, "count": each.answered + each.again}
            for each in self._tallies.values()
            if each.answered or each.again
        ]


_NAMES: Mapping[int, str] = {int(kind): kind.name for kind in Type}


def rule_of(name: Name, authoritative: bool, elsewhere: Elsewhere | None, config: DnsConfig) -> str:
    """Which rule an answer to ``name`` comes from, in one word: for counting, so cheap rather than exhaustive."""
    if elsewhere is not None:
        return UPSTREAM if elsewhere is Elsewhere.UPSTREAM else CLUSTER_DNS
    if not authoritative:
        return REFUSED
    last = name[-1].lower() if name else b""
    if last == b"arpa":
        return "reverse"
    if config.mappings and text_labels(name) in config.mappings:
        return "mapping"
    if last == b"svc":
        return "svc"
    return "namespace" if last.decode("latin-1") in config.namespaces else "cluster-domain"


@dataclass(slots=True)
class Latencies:
    """A histogram of the time from reading a question to sending its answer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0
    """Seconds, of all together."""

    def add(self, seconds: float, answers: int = 1) -> None:
        """``answers`` were sent ``seconds`` after their questions were read."""
        self.counts[bisect_left(BOUNDS, seconds)] += answers
        self.total += seconds * answers

    def to_json(self) -> dict[str, object]:
        return {"bounds": list(BOUNDS), "counts": list(self.counts), "sum": round(self.total, 6)}
