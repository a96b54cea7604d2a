"""Who may do what: bearer tokens, rules, and the reviews by which a client asks about its own rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .resources import Resource, Target
from .status import StatusError, forbidden

Raw = dict[str, Any]

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on resources, in some namespaces or in the whole cluster; ``*`` stands for all."""

    verbs: frozenset[str]
    resources: frozenset[str]
    """Plural names, with ``/subresource`` where it is one."""
    namespaces: frozenset[str] = frozenset("*")
    """Without ``*`` the rule says nothing about the cluster scope, as a RoleBinding does."""

    def allows(self, verb: str, resource: str, namespace: str) -> bool:
        asked = ((self.verbs, verb), (self.resources, resource), (self.namespaces, namespace or "*"))
        return all("*" in granted or wanted in granted for granted, wanted in asked)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, and what they may do."""

    name: str
    rules: tuple[Rule, ...] = ()

    def may(self, verb: str, target: Target, subresource: str = "") -> bool:
        resource = "/".join(filter(None, [target.resource.plural, subresource or target.subresource]))
        namespace = target.namespace or (target.name if target.resource.plural == "namespaces" else "")
        return any(rule.allows(verb, resource, namespace) for rule in self.rules)


ADMIN = User("kubernetes-admin", (Rule(frozenset("*"), frozenset("*")),))
ANONYMOUS = User("system:anonymous")


class Rights:
    """Authentication and authorisation."""

    def __init__(self, tokens: Mapping[str, User] | None) -> None:
        """``tokens`` None: everyone is the administrator."""
        self._tokens = tokens

    def authenticate(self, authorization: str) -> User:
        """The user behind an Authorization header. StatusError 401."""
        if self._tokens is None:
            return ADMIN
        if not authorization:
            return ANONYMOUS
        user = self._tokens.get(authorization.removeprefix("Bearer ").strip())
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return user

    @staticmethod
    def check(user: User, verb: str, target: Target) -> None:
        """StatusError 403, in the words of RBAC."""
        if user.may(verb, target):
            return
        resource = target.resource
        within = target.namespace or (target.name if resource.plural == "namespaces" else "")
        scope = f'in the namespace "{within}"' if within else "at the cluster scope"
        plural = "/".join(filter(None, [resource.plural, target.subresource]))
        why = f'User "{user.name}" cannot {verb} resource "{plural}" in API group "{resource.group}" {scope}'
        raise forbidden(resource, target.name, why)

    @staticmethod
    def check_path(user: User, path: str) -> None:
        """Health and version are for everyone, discovery for everyone with a name. StatusError 403."""
        if user is ANONYMOUS and path.rstrip("/") not in _PUBLIC:
            raise StatusError(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"', {})


def review_access(user: User, resource: Resource, given: Raw, find: Any) -> Raw:
    """The answer to a SelfSubjectAccessReview; ``find(group, plural)`` knows the resources."""
    asked: Raw = (given.get("spec") or {}).get("resourceAttributes") or {}
    about: Resource | None = find(asked.get("group", ""), asked.get("resource", ""))
    allowed = False
    if about is not None:
        name = "" if about.plural != "namespaces" else asked.get("name", "")
        target = Target(about, asked.get("namespace", ""), name, asked.get("subresource", ""))
        allowed = user.may(asked.get("verb", ""), target)
    elif user is ADMIN:
        allowed = True
    attributes = {
        key: asked[key]
        for key in ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        if asked.get(key)
    }
    return {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
        "status": {"allowed": allowed},
    }


def review_rules(user: User, resource: Resource, given: Raw) -> Raw:
    """The answer to a SelfSubjectRulesReview: the user's rules that hold in the namespace it names."""
    namespace = (given.get("spec") or {}).get("namespace", "")
    held = [rule for rule in user.rules if "*" in rule.namespaces or namespace in rule.namespaces]
    rules: list[Raw] = [
        {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        },
        *({"verbs": sorted(rule.verbs), "apiGroups": ["*"], "resources": sorted(rule.resources)} for rule in held),
    ]
    paths = [{"verbs": ["get"], "nonResourceURLs": [*_PUBLIC, "/api", "/api/*", "/apis", "/apis/*"]}]
    status = {"resourceRules": rules, "nonResourceRules": paths, "incomplete": False}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}, "spec": {}, "status": status}
