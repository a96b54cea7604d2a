"""From what we may follow to what follows it."""

from __future__ import annotations

from resolverd.cluster.rights import CLUSTER_DNS_NAMESPACE, Scope
from resolverd.cluster.snapshot import Kind
from resolverd.cluster.watch import WATCHED, Reflector, Sink


def reflectors_for(scope: Scope, sink: Sink) -> list[Reflector]:
    """What follows just ``scope``."""
    namespaced = [watched for watched in WATCHED if watched.kind is not Kind.NAMESPACE]
    if scope.namespaces is None:
        return [Reflector(watched, sink) for watched in (WATCHED if scope.lists_namespaces else namespaced)]
    found = [Reflector(watched, sink, name) for watched in namespaced for name in scope.namespaces]
    if scope.follows_dns and CLUSTER_DNS_NAMESPACE not in scope.namespaces:
        dns = (Kind.SERVICE, Kind.SLICE)
        labelled = [watched for watched in namespaced if watched.kind in dns]
        found += [Reflector(watched, sink, CLUSTER_DNS_NAMESPACE, "k8s-app=kube-dns") for watched in labelled]
    return found


Covered = frozenset[str] | None
"""Namespaces of which everything is known; None: of all."""


def covered_by(scope: Scope) -> Covered:
    """What ``scope`` covers once all its lists are in."""
    return None if scope.namespaces is None else frozenset(scope.namespaces)


def in_both(one: Covered, other: Covered) -> Covered:
    """What ``one`` and ``other`` both cover."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def described(scope: Scope) -> str:
    """For people: what is followed, and why not more."""
    if scope.namespaces is None:
        return "; ".join(("following services of the whole cluster", *scope.missing))
    names = ", ".join(scope.namespaces) or "no namespace"
    return f"following {names}, all there are rights for; it may not: {'; '.join(scope.missing)}"
