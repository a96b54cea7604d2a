"""Checks of the API server: is it there, does it know us, what may we do. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .facts import Facts
from .kubeconfig_checks import no_credentials
from .verdict import Verdict, failed, ok, skipped

OLDEST = (1, 21)
"""The first version with discovery.k8s.io/v1."""
MOST_SKEW = 30.0
"""Seconds between two clocks; beyond, fresh tokens may not be valid yet."""


def server(facts: Facts) -> Verdict:
    found = facts.cluster
    if why := no_credentials(facts):
        return skipped(why)
    if found.unreachable:
        return failed(
            f"{found.server}: {found.unreachable}", f"curl -kv {found.server}/version   # is the VPN to it up?"
        )
    return ok(found.server)


def tls(facts: Facts) -> Verdict:
    found = facts.cluster
    if why := no_credentials(facts):
        return skipped(why)
    if found.unreachable:
        return skipped("the API server does not answer")
    if found.bad_tls:
        return failed(
            f"{found.server}: {found.bad_tls}",
            "kubectl config view --raw   # its certificate-authority-data must be the cluster's",
        )
    return ok("valid" if found.server.startswith("https:") else "not used: plain http")


def _lacks_answer(facts: Facts) -> str:
    """Why nothing that the API server says is known; empty: it is."""
    found = facts.cluster
    if why := no_credentials(facts):
        return why
    return "the API server does not answer" if found.unreachable or found.bad_tls else ""


def login(facts: Facts) -> Verdict:
    if why := _lacks_answer(facts):
        return skipped(why)
    if _ended(facts):
        return skipped("the credentials have ended")
    if facts.cluster.unauthorized:
        return failed(facts.cluster.unauthorized, "kubectl get namespaces   # log in again first")
    return ok("the API server knows us")


def _ended(facts: Facts) -> bool:
    return facts.cluster.expires is not None and facts.cluster.expires <= facts.host.now


def version(facts: Facts) -> Verdict:
    found = facts.cluster.version
    if why := _lacks_answer(facts):
        return skipped(why)
    if found is None:
        return skipped("it does not say which version it is")
    shown = ".".join(map(str, found))
    if found < OLDEST:
        return failed(
            f"Kubernetes {shown}: endpoints are followed by discovery.k8s.io/v1, which came with 1.21",
            "kubectl version   # the cluster needs an upgrade",
        )
    return ok(f"Kubernetes {shown}")


def clock_skew(facts: Facts) -> Verdict:
    skew = facts.cluster.skew
    if why := _lacks_answer(facts):
        return skipped(why)
    if skew is None:
        return skipped("the API server does not tell the time")
    if abs(skew) > MOST_SKEW:
        ahead = "ahead of" if skew > 0 else "behind"
        return failed(
            f"the API server's clock is {abs(skew):.0f} s {ahead} ours", "sudo timedatectl set-ntp true; date -u"
        )
    return ok(f"{abs(skew):.0f} s apart")


def _may(resource: str, is_needed: Callable[[Facts], bool] = lambda _: True) -> Callable[[Facts], Verdict]:
    def judge(facts: Facts) -> Verdict:
        if not is_needed(facts):
            return ok("not needed with these settings")
        if why := _lacks_answer(facts):
            return skipped(why)
        if facts.cluster.unauthorized:
            return skipped("the API server does not know us")
        if verbs := facts.cluster.lacking.get(resource):
            return failed(f"may not {', '.join(verbs)} {resource}", "resolverd rbac | kubectl apply -f -")
        return ok("granted")

    return judge


namespaces = _may("namespaces", lambda facts: not facts.config.settings.cluster.namespaces)
services = _may("services")
slices = _may("endpointslices")
port_forward = _may("pods/portforward", lambda facts: facts.config.settings.tunnel.carries)
pods = _may("pods", lambda facts: facts.config.settings.dns.pod_records == "verified")


def cluster_dns(facts: Facts) -> Verdict:
    named, found = facts.config.settings.cluster.dns_service, facts.cluster.dns
    if named != "auto":
        return ok(f"{named}, by cluster.dns-service")
    if why := _lacks_answer(facts):
        return skipped(why)
    if facts.cluster.unauthorized:
        return skipped("the API server does not know us")
    if found is None:
        return skipped("services of kube-system may not be listed")
    if not found:
        return failed(
            "no service in kube-system has the label k8s-app=kube-dns: names only it knows are not resolved",
            "kubectl -n kube-system get services   # then, in the config file, cluster.dns-service: ADDRESS",
        )
    return ok(found)
