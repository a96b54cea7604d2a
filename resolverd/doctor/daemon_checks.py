"""Checks of the daemon, if one runs, and of what one that was killed left. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resolverd.errors import one_line

from .facts import Facts, Running
from .verdict import Verdict, failed, ok, skipped


def running(facts: Facts) -> Verdict:
    daemon = facts.daemon
    if daemon.running is Running.DENIED:
        return failed(f"one runs in {daemon.folder}, which this user may not ask", "sudo resolverd doctor")
    if daemon.running is Running.SILENT:
        return failed(
            f"one runs in {daemon.folder}, and does not answer", f"tail {daemon.folder}/daemon.log; resolverd down"
        )
    return ok(f"runs in {daemon.folder}" if daemon.is_running else "does not run")


def version(facts: Facts) -> Verdict:
    theirs = str(facts.daemon.status.get("version", ""))
    if theirs and theirs != facts.daemon.version:
        return failed(
            f"the daemon is {one_line(theirs)}, this command {facts.daemon.version}", "resolverd down && resolverd up"
        )
    return ok(f"the same as this command's, {theirs}" if theirs else "no daemon runs")


def healthy(facts: Facts) -> Verdict:
    if not facts.daemon.is_running:
        return ok("no daemon runs")
    for check in facts.daemon.status.get("checks", ()):
        explained = _EXPLAINED.get(str(check["id"]))
        if not check["ok"] and not (explained and explained(facts)):
            fix = one_line(str(check["fix"])) or "resolverd status"
            return failed(one_line(f"{check['id']}: {check['detail']}"), fix)
    return ok("its checks hold, but for what is named here anyway")


def _cluster_is_named(facts: Facts) -> bool:
    """Whether another check says already that the cluster cannot be followed."""
    found = facts.cluster
    return bool(
        found.credentials
        or found.unreachable
        or found.bad_tls
        or found.unauthorized
        or found.lacking
        or not (facts.kubeconfig.files or facts.kubeconfig.in_cluster)
        or (not facts.kubeconfig.in_cluster and facts.kubeconfig.context not in facts.kubeconfig.contexts)
    )


def _resolver_is_named(facts: Facts) -> bool:
    return bool(facts.resolver.bus) or not facts.resolver.is_running


_EXPLAINED: Mapping[str, Callable[[Facts], bool]] = {
    "cluster": _cluster_is_named,
    "rights": _cluster_is_named,
    "port-forward-rights": _cluster_is_named,
    "pods": _cluster_is_named,
    "tunnel": _cluster_is_named,
    "config": lambda facts: bool(facts.config.mistakes),
    "host-resolver": _resolver_is_named,
}
"""Checks of the daemon's own that fail for a reason another check here names."""


def restart_pending(facts: Facts) -> Verdict:
    waiting = [str(name) for name in facts.daemon.status.get("waiting", ())]
    if waiting:
        return failed(
            f"{', '.join(waiting)}: changed, and in force after a restart only", "resolverd down && resolverd up"
        )
    return ok("no setting waits for a restart")


def domain_limit(facts: Facts) -> Verdict:
    withheld = _withheld(facts, "domain-limit")
    if withheld:
        return failed(
            f"{len(withheld)} namespaces have no short names: the host's resolver takes no more domains",
            "resolverd status   # then, in the config file, cluster.namespaces: [THOSE-YOU-USE]",
        )
    return ok("not reached" if facts.daemon.is_running else "no daemon runs")


def _withheld(facts: Facts, reason: str) -> list[Any]:
    found = facts.daemon.status.get("host", {}).get("withheld", ())
    return [item["name"] for item in found if item["reason"] == reason]


def other_daemon(facts: Facts) -> Verdict:
    if others := facts.daemon.others:
        return failed(
            f"another daemon runs, in {', '.join(others)}: two on one host take each other's settings away",
            f"sudo resolverd down --state-dir {others[0]}",
        )
    return ok("no other runs")


def leftovers(facts: Facts) -> Verdict:
    if left := facts.daemon.left:
        return failed(f"a killed daemon left {', '.join(left)}", "sudo resolverd cleanup")
    return ok("nothing is left of a killed daemon")


def own_answer(facts: Facts) -> Verdict:
    daemon = facts.daemon
    if not daemon.is_running or not daemon.probe:
        return ok("no daemon runs" if not daemon.is_running else "nothing to ask for: the cluster is not listed yet")
    if not daemon.own_ok:
        return failed(
            f"the daemon's DNS server says of {daemon.probe}: {daemon.own_answer}", f"resolverd query {daemon.probe}"
        )
    return ok(f"{daemon.probe} is {daemon.own_answer}")


def host_answer(facts: Facts) -> Verdict:
    daemon, host = facts.daemon, facts.daemon.status.get("host", {})
    if not daemon.is_running or not daemon.probe:
        return ok("no daemon runs" if not daemon.is_running else "nothing to ask for: the cluster is not listed yet")
    if not daemon.own_ok:
        return skipped("our own server does not know it either")
    if not (host.get("domains") or host.get("search")):
        return ok("the host is told nothing")
    if _resolver_is_named(facts) and host.get("backend") == "systemd-resolved":
        return skipped("systemd-resolved does not run")
    if not daemon.host_ok:
        return failed(
            f"the host's resolver says of {daemon.probe}: {daemon.host_answer or 'nothing'}, ours {daemon.own_answer}",
            f"getent ahosts {daemon.probe}; grep -n '{daemon.probe}' /etc/hosts; resolvectl query {daemon.probe}",
        )
    return ok(f"{daemon.probe} is {daemon.host_answer}")
