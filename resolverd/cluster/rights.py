"""What we must be allowed to do in the cluster, in one table; and what a person may do, by asking the API server.

Reviews are the only thing ever sent to the cluster besides reading and port-forwards; they store nothing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from .client import ApiClient, ApiError
from .pages import mapping

ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
CLUSTER_DNS_NAMESPACE = "kube-system"
MOST_NAMESPACES = 500
"""Namespaces that are asked about one by one; who may use more is better served by a right in all of them."""
AT_ONCE = 10
"""Reviews under way at a time."""


@dataclass(frozen=True, slots=True)
class Need:
    """Verbs on one resource; all of them are needed."""

    group: str
    """Empty: the core group."""
    resource: str
    """Plural, with ``/subresource`` where it is one."""
    verbs: tuple[str, ...]

    def named(self, verbs: Iterable[str], where: str) -> str:
        """For people: ``list, watch services in the whole cluster``."""
        return f"{', '.join(verbs)} {self.resource} {where}"


NAMESPACES = Need("", "namespaces", ("list", "watch"))
SERVICES = Need("", "services", ("list", "watch"))
SLICES = Need("discovery.k8s.io", "endpointslices", ("list", "watch"))
PODS = Need("", "pods", ("list", "watch"))
PORT_FORWARD = Need("", "pods/portforward", ("get", "create"))
"""A websocket is a GET; since Kubernetes 1.35 it needs the right to create as well."""

_FOLLOWED = (SERVICES, SLICES)
EVERYWHERE = "in the whole cluster"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the cluster is followed."""

    namespaces: tuple[str, ...] | None = None
    """None: all of them."""
    lists_namespaces: bool = True
    """Whether namespaces are followed themselves; otherwise they are known by their services."""
    follows_dns: bool = False
    """Whether the cluster's DNS service is followed, which is in none of ``namespaces``."""
    missing: tuple[str, ...] = ()
    """What may not be done, in words."""

    @property
    def is_partial(self) -> bool:
        return self.namespaces is not None

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing more to follow."""
        return not self.is_partial and self.lists_namespaces


async def missing_verbs(client: ApiClient, need: Need, namespace: str = "") -> tuple[str, ...]:
    """Those of the verbs that we may not use in ``namespace`` (empty: in all). ApiError, UnreachableError."""
    resource, _, subresource = need.resource.partition("/")

    async def allowed(verb: str) -> bool:
        asked = {"verb": verb, "group": need.group, "resource": resource, "subresource": subresource}
        asked |= {"namespace": namespace}
        spec = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
        head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = await client.post(ACCESS_REVIEWS, {**head, "spec": spec})
        return mapping(answer.get("status")).get("allowed") is True

    answers = await asyncio.gather(*(allowed(verb) for verb in need.verbs))
    return tuple(verb for verb, may in zip(need.verbs, answers, strict=True) if not may)


async def find_scope(client: ApiClient, own: str) -> Scope:
    """The most that we may follow; ``own`` is the namespace of the context. Raises ApiError and UnreachableError."""
    needs = (NAMESPACES, SERVICES, SLICES)
    lacking = await asyncio.gather(*(missing_verbs(client, need) for need in needs))
    missing = tuple(need.named(verbs, EVERYWHERE) for need, verbs in zip(needs, lacking, strict=True) if verbs)
    if not lacking[1] and not lacking[2]:
        return Scope(lists_namespaces=not lacking[0], missing=missing)
    candidates = [own, "default"]
    if "list" not in lacking[0]:
        page = await client.get("/api/v1/namespaces", {"limit": str(MOST_NAMESPACES)})
        items = page.get("items")
        for item in items if isinstance(items, list) else ():
            name = mapping(mapping(item).get("metadata")).get("name")
            candidates += [name] if isinstance(name, str) else []
    allowed = await _allowed(client, dict.fromkeys([*candidates, CLUSTER_DNS_NAMESPACE]))
    follows_dns = CLUSTER_DNS_NAMESPACE in allowed
    return Scope(tuple(name for name in allowed if name in candidates), False, follows_dns, missing)


async def named_scope(client: ApiClient, namespaces: tuple[str, ...]) -> Scope:
    """``namespaces`` as the settings name them, and the cluster's DNS service where we may."""
    if CLUSTER_DNS_NAMESPACE in namespaces:
        return Scope(namespaces, lists_namespaces=False)
    where = f"in {CLUSTER_DNS_NAMESPACE}, for the names of other namespaces"
    try:
        lacking = await asyncio.gather(*(missing_verbs(client, need, CLUSTER_DNS_NAMESPACE) for need in _FOLLOWED))
    except ApiError:
        lacking = [need.verbs for need in _FOLLOWED]
    missing = tuple(need.named(verbs, where) for need, verbs in zip(_FOLLOWED, lacking, strict=True) if verbs)
    return Scope(namespaces, lists_namespaces=False, follows_dns=not missing, missing=missing)


async def missing_forwards(client: ApiClient, scope: Scope) -> tuple[str, ...]:
    """What lacks to open port-forwards where ``scope`` says, in words. Raises ApiError and UnreachableError."""
    if scope.namespaces is None:
        wheres = {"": EVERYWHERE}
    else:
        dns = (CLUSTER_DNS_NAMESPACE,) if scope.follows_dns else ()
        wheres = {name: f"in {name}" for name in (*scope.namespaces[:AT_ONCE], *dns)}
    lacking = await asyncio.gather(*(missing_verbs(client, PORT_FORWARD, name) for name in wheres))
    return tuple(
        PORT_FORWARD.named(verbs, where) for where, verbs in zip(wheres.values(), lacking, strict=True) if verbs
    )


async def _allowed(client: ApiClient, namespaces: Iterable[str]) -> list[str]:
    """Those of ``namespaces`` whose services and slices we may list and watch."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def may(namespace: str) -> bool:
        async with gate:
            return await _may_follow(client, namespace)

    names = list(namespaces)
    answers = await asyncio.gather(*map(may, names))
    return [name for name, yes in zip(names, answers, strict=True) if yes]


async def _may_follow(client: ApiClient, namespace: str) -> bool:
    """One rules review; where the server cannot tell the rules (webhook authorisers), single questions."""
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    status = mapping((await client.post(RULES_REVIEWS, {**head, "spec": {"namespace": namespace}})).get("status"))
    rules = status.get("resourceRules")
    found = [mapping(rule) for rule in (rules if isinstance(rules, list) else ())]
    if all(_grants(found, need, verb) for need in _FOLLOWED for verb in need.verbs):
        return True
    if not status.get("incomplete"):
        return False
    lacking = [await missing_verbs(client, need, namespace) for need in _FOLLOWED]
    return not any(lacking)


def _grants(rules: list[dict[str, object]], need: Need, verb: str) -> bool:
    """Whether one of ``rules`` allows ``verb`` on everything of that kind; one about single names does not."""
    wanted = (("verbs", verb), ("apiGroups", need.group), ("resources", need.resource))
    return any(
        not rule.get("resourceNames") and all(_holds(rule.get(key), value) for key, value in wanted) for rule in rules
    )


def _holds(granted: object, value: str) -> bool:
    return isinstance(granted, list) and ("*" in granted or value in granted)
