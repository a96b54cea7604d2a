"""What a plan does to the host, item by item, beside what is in force. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .errors import one_line
from .host import HostDns, Server
from .planned import HostPlan


class What(StrEnum):
    """Kinds of what is changed on a host, in the order they are shown."""

    DEVICE = "device"
    SERVER = "server"
    RULE = "rule"
    FILE = "file"
    DOMAIN = "domain"
    SEARCH = "search"
    ROUTE = "route"


class Step(StrEnum):
    """What becomes of an item."""

    ADD = "+"
    REMOVE = "-"
    KEEP = "="
    UNKNOWN = "?"
    """It is there, and whether it would stay is not known without the cluster."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on the host that is ours."""

    what: What
    name: str
    because: str = ""
    """Why it is wanted; two items are the same without it."""


@dataclass(frozen=True, slots=True)
class Difference:
    step: Step
    item: Item

    def to_json(self) -> dict[str, str]:
        item = self.item
        return {"step": self.step.value, "what": item.what.value, "name": item.name, "because": item.because}


def wanted(
    plan: HostPlan, told: HostDns, device: str, server: Server, written: Mapping[str, str] | None = None
) -> Iterator[Item]:
    """The items of a plan. ``told`` is the part of it that the back end tells the host; ``device`` the TUN device,
    empty when there is none; ``server`` our DNS server; ``written`` where the user named a domain."""
    if device:
        yield Item(What.DEVICE, device, "the tunnel's device")
    yield Item(What.SERVER, str(server), "our DNS server")
    places = written or {}
    reasons = {
        domain.name: f"{domain.origin.value}, {places[domain.name]}" if domain.name in places else domain.origin.value
        for domain in plan.domains
    }
    yield from (Item(What.DOMAIN, f"~{name}", reasons.get(name, "")) for name in told.routing)
    yield from (Item(What.SEARCH, name, reasons.get(name, "")) for name in told.search)
    if device:
        each = "all of it" if plan.routes.whole else "addresses once answered"
        for network, source in plan.routes.sources:
            yield Item(What.ROUTE, str(network), f"{source}: {each}")


def in_force(status: dict[str, Any]) -> Iterator[Item]:
    """The items of a running daemon, by its status document."""
    host, tunnel = status["host"], status["tunnel"]
    if device := tunnel.get("device") or host.get("link"):
        yield Item(What.DEVICE, device)
    yield Item(What.SERVER, status["dns"]["listen"][0])  # another one for the other IP version comes with it
    yield from (Item(What.DOMAIN, each) for each in host["domains"])
    yield from (Item(What.SEARCH, each) for each in host["search"])
    if device:
        yield from (Item(What.ROUTE, each["net"]) for each in tunnel.get("ranges", ()))


_OF_THE_CLUSTER = frozenset({What.DOMAIN, What.SEARCH, What.ROUTE})


def compare(wanted: Iterable[Item], now: Iterable[Item], *, knows_cluster: bool = True) -> tuple[Difference, ...]:
    """What is added, kept and removed, in the order of :class:`What`, removed ones after the others of their kind.

    A daemon keeps what it knew of a cluster that is away, so without the cluster nothing of it is said to be removed.
    """
    there = {(item.what, item.name): item for item in now}
    found: list[Difference] = []
    for item in dict.fromkeys(wanted):
        kept = there.pop((item.what, item.name), None)
        found.append(Difference(Step.KEEP if kept else Step.ADD, item))
    unclear = frozenset() if knows_cluster else _OF_THE_CLUSTER
    gone = ((Step.UNKNOWN if item.what in unclear else Step.REMOVE, item) for item in there.values())
    found += [Difference(step, item) for step, item in gone]
    order = tuple(What)
    return tuple(sorted(found, key=lambda each: order.index(each.item.what)))


def document(differences: Iterable[Difference], plan: HostPlan, about: dict[str, Any]) -> dict[str, Any]:
    """``resolverd plan --output json``."""
    shown = plan.to_json()
    return {
        **about,
        "changes": [{key: one_line(text) for key, text in each.to_json().items()} for each in differences],
        "withheld": shown["withheld"],
        "never-routed": [{"net": str(net), "reason": reason} for net, reason in plan.routes.never],
        "warnings": shown["warnings"],
    }
