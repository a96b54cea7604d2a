"""``resolverd rbac``: the least rights that the settings need, as YAML for ``kubectl apply -f -``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resolverd.cluster.rights import (
    CLUSTER_DNS_NAMESPACE,
    NAMESPACES,
    PODS,
    PORT_FORWARD,
    SERVICES,
    SLICES,
    Need,
)
from resolverd.settings import Settings

NAME = "resolverd"
HEADER = """# The least rights that resolverd needs with these settings; bind them to your users or groups, for example
#   kubectl create {kind} resolverd --{role}=resolverd --user=NAME{where}
# Access reviews, by which it finds out what it may do, are allowed to everyone who is logged in.
"""


def documents(settings: Settings) -> Iterator[dict[str, Any]]:
    """A ClusterRole for the whole cluster, or a Role for each namespace that is named.

    With namespaces, the cluster's DNS service is needed, too, for the names of all others, by the tunnel or directly.
    """
    inside = [SERVICES, SLICES]
    if settings.dns.pod_records == "verified":
        inside.append(PODS)
    forwards = [PORT_FORWARD] if settings.tunnel.carries else []
    inside += forwards
    named = settings.cluster.namespaces
    if not named:
        yield _role("ClusterRole", "", [NAMESPACES, *inside])
        return
    for namespace in named:
        yield _role("Role", namespace, inside)
    if settings.tunnel.enabled and CLUSTER_DNS_NAMESPACE not in named:
        yield _role("Role", CLUSTER_DNS_NAMESPACE, [SERVICES, SLICES, *forwards])


def text(settings: Settings) -> str:
    """All of them as one YAML stream."""
    import yaml

    named = settings.cluster.namespaces
    kind, role = ("rolebinding", "role") if named else ("clusterrolebinding", "clusterrole")
    header = HEADER.format(kind=kind, role=role, where=" --namespace=NAMESPACE" if named else "")
    return header + yaml.safe_dump_all(documents(settings), sort_keys=False)


def _role(kind: str, namespace: str, needs: list[Need]) -> dict[str, Any]:
    metadata = {"name": NAME, **({"namespace": namespace} if namespace else {})}
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}
    return {**head, "rules": [_rule(need) for need in needs]}


def _rule(need: Need) -> dict[str, list[str]]:
    return {"apiGroups": [need.group], "resources": [need.resource], "verbs": list(need.verbs)}
