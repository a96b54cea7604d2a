"""The status document of the contract, from what the parts say of themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from resolverd.check import Check
from resolverd.cluster.snapshot import Snapshot
from resolverd.host import Applied
from resolverd.plan import HostPlan
from resolverd.probe import Probe
from resolverd.withdrawal import Evidence


@dataclass(frozen=True, slots=True)
class HostPart:
    backend: str
    reason: str
    plan: HostPlan
    applied: Applied
    bus: str = ""
    """The library that talks to the host's resolver; empty: none is needed."""
    withdrawn: Evidence | None = None
    """Why everything was taken back; None: it was not."""
    suffix_list: Mapping[str, Any] = field(default_factory=dict)
    """Which public suffix list the plan goes by, and how old it is."""


@dataclass(frozen=True, slots=True)
class ClusterPart:
    context: str
    server: str
    domain: str
    snapshot: Snapshot
    last_event: float
    """Unix time, in seconds; 0: none yet."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say of it, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is to tell."""

    version: str
    since: float
    """Unix time, in seconds."""
    host: HostPart
    cluster: ClusterPart
    dns: Mapping[str, Any]
    tunnel: Mapping[str, Any]
    checks: tuple[Check, ...]
    probes: tuple[Probe, ...] = ()
    """What `resolverd up` tries."""


def document(parts: Parts) -> dict[str, Any]:
    """``status --output json`` as the contract has it."""
    applied, plan = parts.host.applied.dns, parts.host.plan
    snapshot = parts.cluster.snapshot
    return {
        "state": _state(parts),
        "version": parts.version,
        "since": _moment(parts.since),
        "host": {
            **plan.to_json(),
            "backend": parts.host.backend,
            "reason": parts.host.reason,
            "bus": parts.host.bus,
            "withdrawn": parts.host.withdrawn.to_json() if parts.host.withdrawn else None,
            "link": applied.link,
            "domains": [f"~{name}" for name in applied.routing],
            "search": list(applied.search),
            "notes": list(parts.host.applied.notes),
            "suffix-list": dict(parts.host.suffix_list),
        },
        "cluster": {
            "context": parts.cluster.context,
            "server": parts.cluster.server,
            "domain": parts.cluster.domain,
            "synced": snapshot.synced,
            "namespaces": len(snapshot.namespaces),
            "services": len(snapshot.services),
            "endpoints": sum(len(item.endpoints) for item in snapshot.slices.values()),
            "last-event": _moment(parts.cluster.last_event) if parts.cluster.last_event else None,
            **parts.cluster.more,
        },
        "dns": dict(parts.dns),
        "tunnel": dict(parts.tunnel),
        "checks": [asdict(check) for check in parts.checks],
        "probes": [asdict(probe) for probe in parts.probes],
    }


def _state(parts: Parts) -> str:
    is_healthy = not parts.host.withdrawn and all(check.ok for check in parts.checks)
    return "healthy" if is_healthy else "degraded"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
