"""Checks of the config file, the kubeconfig and the credentials in it. Pure."""

from __future__ import annotations

from .facts import Facts
from .verdict import Verdict, failed, ok, skipped

SOON = 3600.0
"""Seconds before their end at which credentials that nobody renews are worth a word."""


def config(facts: Facts) -> Verdict:
    if mistakes := facts.config.mistakes:
        more = f", and {len(mistakes) - 1} more" if len(mistakes) > 1 else ""
        return failed(f"{mistakes[0]}{more}", "resolverd config check")
    return ok(f"{facts.config.path}: no mistakes" if facts.config.path else "there is no config file")


def kubeconfig(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if found.in_cluster:
        return ok("not needed: this is a pod, with a service account")
    if found.unreadable:
        return failed(f"{found.unreadable[0]}", f"ls -l {found.unreadable[0].partition(': ')[0]}; id")
    if found.malformed:
        return failed(found.malformed, "kubectl config view")
    if not found.files:
        return failed(
            f"{' or '.join(found.missing) or 'it'} is not there",
            "export KUBECONFIG=/path/to/kubeconfig   # or --kubeconfig FILE",
        )
    return ok(", ".join(found.files))


def kubeconfig_permissions(facts: Facts) -> Verdict:
    if exposed := facts.kubeconfig.exposed:
        return failed(
            f"others may read {', '.join(exposed)}, and the credentials in it", f"chmod 600 {' '.join(exposed)}"
        )
    return ok("its owner's alone")


def _lacks_file(facts: Facts) -> str:
    """Why there is nothing in the kubeconfig to judge; empty: there is."""
    found = facts.kubeconfig
    if found.in_cluster:
        return ""
    return "" if found.files and not found.malformed and not found.unreadable else "there is no kubeconfig to read"


def context(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if why := _lacks_file(facts):
        return skipped(why)
    if found.in_cluster:
        return ok("not needed: this is a pod")
    if not found.context:
        return failed("no context is chosen", "kubectl config use-context NAME   # or --context NAME")
    if found.context not in found.contexts:
        there = ", ".join(found.contexts) or "none"
        return failed(
            f"there is no context {found.context}; there is {there}",
            "kubectl config get-contexts   # then --context NAME",
        )
    return ok(found.context)


def _lacks_context(facts: Facts) -> str:
    if why := _lacks_file(facts):
        return why
    found = facts.kubeconfig
    return "" if found.in_cluster or found.context in found.contexts else "there is no such context"


def cluster_entry(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if why := _lacks_context(facts):
        return skipped(why)
    if not found.has_cluster:
        return failed(
            f"context {found.context} names cluster {found.cluster or '(none)'}, which is not there",
            "kubectl config get-clusters",
        )
    return ok(found.cluster or "the pod's own")


def user_entry(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if why := _lacks_context(facts):
        return skipped(why)
    if not found.has_user:
        return failed(
            f"context {found.context} names user {found.user or '(none)'}, which is not there",
            "kubectl config get-users",
        )
    return ok(found.user or "the pod's service account")


def exec_plugin(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if why := _lacks_context(facts):
        return skipped(why)
    if not found.plugin:
        return ok("not needed: the user has no exec plugin")
    if not found.plugin_path:
        return failed(
            f"the credentials come from {found.plugin}, which is not in PATH",
            f"command -v {found.plugin}   # install it, or name it with its whole path in the kubeconfig",
        )
    return ok(found.plugin_path)


def credentials(facts: Facts) -> Verdict:
    found = facts.kubeconfig
    if why := _lacks_context(facts):
        return skipped(why)
    if not (found.has_cluster and found.has_user) or (found.plugin and not found.plugin_path):
        return skipped("the kubeconfig is not whole")
    if facts.cluster.credentials:
        return failed(facts.cluster.credentials, facts.cluster.credentials_fix or "kubectl get namespaces")
    return ok("loaded")


def no_credentials(facts: Facts) -> str:
    """Why the cluster cannot be asked anything; empty: it can."""
    found = facts.kubeconfig
    if why := _lacks_context(facts):
        return why
    whole = found.has_cluster and found.has_user and not (found.plugin and not found.plugin_path)
    return "" if whole and not facts.cluster.credentials else "there are no credentials"


def expiry(facts: Facts) -> Verdict:
    ends, now = facts.cluster.expires, facts.host.now
    if why := no_credentials(facts):
        return skipped(why)
    if ends is None:
        return ok("they do not say when they end")
    if ends <= now:
        return failed(f"they ended {_length(now - ends)} ago", "kubectl get namespaces   # log in again first")
    if ends - now < SOON and not facts.kubeconfig.plugin:
        return failed(
            f"they end in {_length(ends - now)}, and nothing renews them", "kubectl get namespaces   # log in"
        )
    return ok(f"they end in {_length(ends - now)}")


def _length(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 2880:
        return f"{minutes // 1440} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
