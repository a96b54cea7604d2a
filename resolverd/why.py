"""What the daemon says to ``resolverd why``: the decision, where the host should send the name, where it does. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import reasons
from .decision import Decider
from .dns.rules import Labels
from .errors import UsageError
from .host import Capabilities, HostDns
from .host_route import HostRoute, route_of
from .names import MAX_NAME, address_of, labels

_LONGEST_LABEL = 63
"""Characters (RFC 1035 2.3.4)."""


@dataclass(frozen=True, slots=True)
class HostSide:
    """The host's resolver, as far as we have a hand in it."""

    backend: str
    told: HostDns
    """What the plan wants it to be told."""
    live: HostDns | None
    """What is in force; None: that cannot be read."""
    capabilities: Capabilities
    listen: str = ""
    """Our DNS server, ``ADDR:PORT``; empty: there is none."""


def question_of(text: str) -> Labels:
    """The name somebody asks about, an address by its reverse name. UsageError when it is no domain name."""
    address = address_of(text.strip())
    name = labels(address.reverse_pointer if address else text.strip())
    if not name or len(text) > MAX_NAME + 1 or not all(0 < len(label) <= _LONGEST_LABEL for label in name):
        raise UsageError(f"name {text}", "not a domain name", "labels of 1 to 63 characters, 253 in all")
    return name


def document(name: Labels, decider: Decider, host: HostSide) -> dict[str, Any]:
    """The decision on ``name``, and what follows for the host."""
    decision = decider.decide(name)
    intended = route_of(decision.asked, host.told, host.capabilities)
    live = intended if host.live is None else route_of(decision.asked, host.live, host.capabilities)
    return {
        **reasons.document(decision, decider),
        "host": {
            "backend": host.backend,
            "listen": host.listen,
            "link": host.told.link,
            "intended": _json(intended),
            "live": _json(live),
        },
    }


def _json(route: HostRoute) -> dict[str, Any]:
    return {
        "ours": route.is_ours,
        "link": route.link,
        "domain": route.domain,
        "servers": list(route.servers),
        "because": route.why,
    }
