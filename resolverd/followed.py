"""What ``status`` says of the cluster that is followed: is it there, how old is what is known, what may we not do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from resolverd.check import Check
from resolverd.cluster.follow import Follower
from resolverd.cluster.snapshot import Kind
from resolverd.dns.cluster_dns import cluster_dns_address
from resolverd.settings import ClusterSettings

RBAC = "resolverd rbac prints the role that is needed"


def checks(follower: Follower, tunnel: bool = False) -> Iterator[Check]:
    """Whether the cluster is followed, whether that is all of it, and whether a ``tunnel`` into it is allowed."""
    trouble = next((error for kind, error in follower.trouble.items() if not kind.startswith(Kind.POD)), None)
    fix = trouble.fix if trouble else ""
    if follower.is_away:
        why = trouble.why if trouble else "the first lists are on the way"
        age = _ago(follower.clock() - follower.heard)
        yield Check("cluster", False, f"away, answers are as of {_moment(follower.heard)}, {age} ago: {why}", fix)
    elif trouble:
        yield Check("cluster", False, trouble.why, fix)
    else:
        synced = follower.synced.is_set()
        yield Check("cluster", synced, "followed" if synced else "the first lists are on the way")
    scope = follower.scope
    if scope.missing:
        is_something = scope.namespaces is None or bool(scope.namespaces) or scope.follows_dns
        yield Check("rights", is_something, f"follows {_followed(follower)}; may not {'; '.join(scope.missing)}", RBAC)
    if tunnel and follower.facts.missing_forwards:
        yield Check("port-forward-rights", False, f"may not {'; '.join(follower.facts.missing_forwards)}", RBAC)
    pods = follower.pods
    lacking = next((error for kind, error in follower.trouble.items() if kind.startswith(Kind.POD)), None)
    if pods.are_wanted:
        detail = lacking.why if lacking else "followed" if pods.are_listed else "their list is on the way"
        yield Check("pods", pods.are_listed and not lacking, detail, lacking.fix if lacking else "")
    if follower.malformed:
        yield Check("objects", True, f"{follower.malformed} objects are malformed and left out; the log names them")


def part(follower: Follower, settings: ClusterSettings, domain_source: str) -> dict[str, Any]:
    """Keys of the cluster's part of the status document, besides the contract's."""
    scope = follower.scope
    return {
        "away": follower.is_away,
        "age": round(max(0.0, follower.clock() - follower.heard), 1) if follower.heard and follower.is_away else 0,
        "requests": follower.load.requests,
        "watches": follower.load.watches,
        "watches-begun": follower.load.watches_begun,
        "malformed": follower.malformed,
        "follows": "all" if scope.namespaces is None else list(scope.namespaces),
        "follows-because": "cluster.namespaces"
        if settings.namespaces
        else "access reviews"
        if scope.missing
        else "auto",
        "missing-rights": list(scope.missing),
        "note": follower.context_note,
        "domain-source": domain_source,
        "dns-service": _dns_service(follower, settings),
        "ranges": [{"net": str(net), "source": source} for net, source in follower.facts.sources],
    }


def _dns_service(follower: Follower, settings: ClusterSettings) -> dict[str, str]:
    if settings.dns_service != "auto":
        return {"address": settings.dns_service, "source": "cluster.dns-service"}
    address = cluster_dns_address(follower.snapshot)
    return {"address": str(address or ""), "source": "service in kube-system" if address else "not found"}


def _followed(follower: Follower) -> str:
    namespaces = follower.scope.namespaces
    return "services everywhere" if namespaces is None else ", ".join(namespaces) or "nothing"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _ago(seconds: float) -> str:
    minutes = int(seconds) // 60
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min"
        if minutes
        else f"{seconds:.0f} s"
    )
