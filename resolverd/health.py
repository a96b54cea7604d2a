"""The checks of ``status`` about the daemon's own parts: the host as it was told, the worker processes, the tunnel."""

from __future__ import annotations

from collections.abc import Iterator

from resolverd.check import Check
from resolverd.reconcile import Reconciler
from resolverd.withdrawal import Evidence
from resolverd.workers import Worker


def of_host(reconciler: Reconciler, evidence: Evidence | None) -> Iterator[Check]:
    """Whether the host's resolver has what we want; ``evidence``: of what made us take it back."""
    error, in_force = reconciler.trouble, reconciler.in_force.is_set()
    detail = error.why if error else "in force" if in_force else "not yet told"
    yield Check("host-resolver", in_force and not error, detail, error.fix if error else "")
    taken = f"everything was taken back: {evidence}" if evidence else "no public name was found broken by us"
    yield Check("withdrawal", not evidence, taken, evidence.fix if evidence else "")


def of_worker(worker: Worker, *, is_silent: bool) -> Check:
    """Whether ``worker`` serves; ``is_silent``: it did not answer when it was last asked."""
    state = "does not answer" if is_silent else "serving" if worker.ready.is_set() else "starting"
    fix = "restart it: resolverd down, resolverd up" if is_silent else ""
    healthy = worker.ready.is_set() and not is_silent
    return Check(f"{worker.name}-process", healthy, f"{state}, {worker.restarts} restarts", fix)


def of_tunnel(state: str) -> Check:
    """Whether anything can be carried, by what the tunnel process says of itself."""
    return Check("tunnel", state in ("ready", "starting"), state, "is the cluster up, and the VPN to it?")
