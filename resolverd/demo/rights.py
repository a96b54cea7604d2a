"""Who may do what: bearer tokens, rules, and the reviews by which a client asks about its own rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .resources import ACCESS_REVIEWS, NAMESPACES, RULES_REVIEWS, Resource, Target, by_path
from .shapes import fitted
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
        namespace = target.namespace or (target.name if target.resource is NAMESPACES else "")
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
        reviews_itself = target.resource in (ACCESS_REVIEWS, RULES_REVIEWS) and user is not ANONYMOUS
        if reviews_itself or user.may(verb, target):
            return
        resource = target.resource
        within = target.namespace or (target.name if resource is NAMESPACES else "")
        scope = f'in the namespace "{within}"' if within else "at the cluster scope"
        plural = "/".join(filter(None, [resource.plural, target.subresource]))
        why = f'User "{user.name}" cannot {verb} resource "{plural}" in API group "{resource.group}" {scope}'
        raise forbidden(resource, target.name, why)

    @staticmethod
    def check_path(user: User, path: str) -> None:
        """Health and version are for everyone, discovery for everyone with a name. StatusError 403."""
        if user is ANONYMOUS and path.rstrip("/") not in _PUBLIC:
            raise StatusError(403, "Forbidden", f'forbidden: User "{user.name}" cannot get path "{path}"', {})


def review_access(user: User, given: Raw) -> Raw:
    """The answer to a SelfSubjectAccessReview. StatusError 400."""
    asked: Raw = fitted(ACCESS_REVIEWS, given).get("spec", {}).get("resourceAttributes", {})
    about = by_path(asked.get("group", ""), asked.get("resource", ""))
    allowed = user is ADMIN
    if about is not None:
        name = asked.get("name", "") if about is NAMESPACES else ""
        target = Target(about, asked.get("namespace", ""), name, asked.get("subresource", ""))
        allowed = user.may(asked.get("verb", ""), target)
    order = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
    attributes = {key: asked[key] for key in order if asked.get(key)}
    return _reviewed(ACCESS_REVIEWS, {"resourceAttributes": attributes}, {"allowed": allowed})


def review_rules(user: User, given: Raw) -> Raw:
    """The answer to a SelfSubjectRulesReview: the user's rules that hold in the namespace it names. StatusError 400."""
    namespace = fitted(RULES_REVIEWS, given).get("spec", {}).get("namespace", "")
    rules: list[Raw] = [
        {
            "verbs": ["create"],
            "apiGroups": [ACCESS_REVIEWS.group],
            "resources": [ACCESS_REVIEWS.plural, RULES_REVIEWS.plural],
        },
        *(
            {"verbs": sorted(rule.verbs), "apiGroups": ["*"], "resources": sorted(rule.resources)}
            for rule in user.rules
            if rule.namespaces & {"*", namespace}
        ),
    ]
    paths = [{"verbs": ["get"], "nonResourceURLs": [*_PUBLIC, "/api", "/api/*", "/apis", "/apis/*"]}]
    return _reviewed(RULES_REVIEWS, {}, {"resourceRules": rules, "nonResourceRules": paths, "incomplete": False})


def _reviewed(resource: Resource, spec: Raw, status: Raw) -> Raw:
    head = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}}
    return {**head, "spec": spec, "status": status}
