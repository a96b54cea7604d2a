"""What the daemon says to ``resolverd why``: the decision, where the host should send the name, where it does. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import reasons
from .decision import Decider
from .dns.rules import Labels
from .errors import UsageError, one_line
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
        "host": {"backend": host.backend, "listen": host.listen, "intended": _json(intended), "live": _json(live)},
    }


def _json(route: HostRoute) -> dict[str, Any]:
    return {
        "ours": route.is_ours,
        "link": route.link,
        "domain": route.domain,
        "servers": list(route.servers),
        "because": route.why,
    }


def difference(explained: dict[str, Any], answer: dict[str, Any] | None, lookup: dict[str, Any] | None) -> str:
    """How the host departs from what is intended, one line; empty when it does not.

    ``explained`` is :func:`document`'s, ``answer`` what our server says (``addresses``, ``rcode``), ``lookup`` what
    the host's resolver does (``link``, ``addresses``, ``error``).
    """
    host = explained["host"]
    intended, live = host["intended"], host["live"]
    if intended["ours"] != live["ours"]:
        wanted = f"{intended['link']} should have the domain {intended['domain']}"
        return (
            f"{wanted}, and has not"
            if intended["ours"]
            else f"{live['link']} has the domain {live['domain']}, and should not"
        )
    if lookup is None:
        return ""
    link, ours = lookup["link"], intended["link"]
    if link and ours and intended["ours"] != (link == ours):
        return (
            f"the host asked {link}, and should have asked {ours}"
            if intended["ours"]
            else f"the host asked {link}, which has no domain for it"
        )
    if not intended["ours"] or answer is None or lookup["synthetic"]:
        return _own_idea(intended["ours"], answer, lookup)
    return _compared(answer, lookup)


def _own_idea(is_ours: bool, answer: dict[str, Any] | None, lookup: dict[str, Any]) -> str:
    """An answer that came from the host itself, such as from /etc/hosts, where ours should have come."""
    if not is_ours or answer is None or set(lookup["addresses"]) & set(answer["addresses"]):
        return ""
    return f"the host answers {_listed(lookup['addresses'])} by itself: see /etc/hosts"


def _compared(answer: dict[str, Any], lookup: dict[str, Any]) -> str:
    ours, hosts = set(answer["addresses"]), set(lookup["addresses"])
    if ours and not hosts:
        return f"our server has {_listed(answer['addresses'])}, the host none: {one_line(lookup['error'])}"
    if ours != hosts and not ours & hosts:
        said = _listed(answer["addresses"]) or answer["rcode"]
        return f"the host says {_listed(lookup['addresses'])}, our server {said}"
    return ""


def _listed(addresses: list[str]) -> str:
    return ", ".join(addresses[:3])
