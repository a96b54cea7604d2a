"""A decision in words: why, what would change it, and the document that ``resolverd why`` prints. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .decision import Answerer, Decider, Decision, Rule, RuleKind
from .dns.rules import Kind, Labels
from .errors import one_line
from .suffixes import Reason

_OF_NAMESPACES = frozenset({RuleKind.WITHHELD, RuleKind.NAMESPACE, RuleKind.EXCLUDE_SUFFIX})
"""Rules that may tell why a namespace's short names are not the cluster's, or not asked of it."""


_CLUSTERS = frozenset(
    {
        *(RuleKind.MAPPING, RuleKind.INCLUDE_SUFFIX, RuleKind.CLUSTER_DOMAIN, RuleKind.SVC),
        *(RuleKind.NAMESPACE, RuleKind.SEARCH, RuleKind.REVERSE_ZONE),
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that would make it another decision."""

    setting: str
    """``dns.include-suffixes``; empty: no setting does."""
    item: str
    """What to add to that list, as YAML."""
    drop: str = ""
    """The origin of the item that is to be taken out instead."""

    def __str__(self) -> str:
        if self.drop:
            return f"take {self.item} out of {self.setting} ({self.drop})"
        return f"{self.setting}: [{self.item}]"


def text_of(name: Labels) -> str:
    return one_line(".".join(name)) or "."


def reason(decision: Decision, decider: Decider) -> str:
    """Why the name is whose it is, one line."""
    rule, asked = decision.rule, text_of(decision.asked)
    match rule.kind:
        case RuleKind.MAPPING:
            return "dns.mappings has this name, and nothing is above a mapping"
        case RuleKind.WPAD:
            return "wpad names choose the proxy of browsers, so they are never the cluster's"
        case RuleKind.EXCLUDED_NAME:
            return "dns.excludes has exactly this name"
        case RuleKind.EXCLUDE_SUFFIX:
            return f"it ends in {rule.text}, which dns.exclude-suffixes keeps from the cluster"
        case RuleKind.INCLUDE_SUFFIX:
            return f"it ends in {rule.text}, which dns.include-suffixes gives to the cluster"
        case RuleKind.CLUSTER_DOMAIN:
            return f"it ends in {rule.text}, the cluster's own domain"
        case RuleKind.SVC:
            return "it ends in svc, the cluster's services by their short names"
        case RuleKind.NAMESPACE:
            return f"the cluster has a namespace {rule.text}"
        case RuleKind.SEARCH:
            return f"it is a single label, so the host looks for {asked}"
        case RuleKind.REVERSE_ZONE:
            return f"this address is in {rule.text}, the cluster's own"
    return _not_taken(decision, decider)


def _not_taken(decision: Decision, decider: Decider) -> str:
    rule = decision.rule
    if rule.kind is RuleKind.WITHHELD:
        item = decider.withheld[rule.text]
        return f"there is a namespace {one_line(rule.text)}, but {one_line(item.detail)}"
    if rule.kind is RuleKind.NOT_ROUTED:
        return f"there is a namespace {rule.text}, but host.route-namespaces is false"
    if not decider.policy.is_complete:
        return "no rule of the config file matches, and what the cluster has is not known"
    if len(decision.name) == 1:
        return "it is a single label, and no namespace is searched for those"
    if decision.claim.zone is not None and decision.claim.zone.kind is Kind.REVERSE:
        return "this address is outside the cluster's ranges"
    return "no rule matches: no namespace, no suffix, not the cluster's domain"


def changes(decision: Decision, decider: Decider) -> Iterator[Change]:
    """The settings that would make it another decision, the narrowest first."""
    rule, name = decision.rule, decision.asked
    if decision.answerer is not Answerer.NORMAL:
        if rule.kind is RuleKind.MAPPING:
            yield Change("dns.mappings", rule.text, rule.origin)
        else:
            yield Change("dns.excludes", text_of(decision.name))
        return
    if rule.kind is RuleKind.EXCLUDED_NAME:
        yield Change("dns.excludes", rule.text, rule.origin)
        return
    if rule.kind is RuleKind.WITHHELD:
        if decider.withheld[rule.text].reason is not Reason.INVALID_NAME:
            yield Change("dns.allow-collisions", rule.text)
        return
    if rule.kind is RuleKind.WPAD or len(name) < 2:
        yield Change("dns.mappings", f"{{name: {text_of(name)}, alias-for: NAME}}")
        return
    parent = name[1:]
    below = max(rule.length, 2) if rule.kind is RuleKind.EXCLUDE_SUFFIX else 2
    yield Change("dns.include-suffixes", "." + text_of(parent if len(parent) >= below else name))


def document(decision: Decision, decider: Decider) -> dict[str, Any]:
    """The decision as plain JSON; no text in it holds control characters."""
    rule = decision.rule
    held = decider.withheld.get(decision.asked[-1]) if rule.kind in _OF_NAMESPACES else None
    below = decision.asked[:-1] if held else ()
    return {
        "name": text_of(decision.name),
        "asked": text_of(decision.asked),
        "searched": [text_of(decision.name + each) for each in decider.search] if len(decision.name) == 1 else [],
        "answered-by": decision.answerer.value,
        "rule": _rule(rule),
        "reason": reason(decision, decider),
        "overruled": [
            {**_rule(other), "because": because}
            for other in decider.overruled(decision)
            if (because := _because(other, rule))
        ],
        "withheld": held.reason.value if held else None,
        "still": [_filled(pattern, below) for pattern in held.still] if held else [],
        "changes": [str(change) for change in changes(decision, decider)],
        "complete": decider.policy.is_complete,
    }


def _rule(rule: Rule) -> dict[str, str]:
    return {"kind": rule.kind.value, "text": one_line(rule.text), "origin": one_line(rule.origin)}


def _because(other: Rule, winner: Rule) -> str:
    """Why ``other`` did not decide; empty when it says the same."""
    if _is_clusters(other) and _is_clusters(winner):
        return ""
    if winner.kind is RuleKind.MAPPING:
        return "a mapping beats every other rule"
    if winner.kind is RuleKind.WPAD:
        return "wpad names are never the cluster's"
    if winner.kind is RuleKind.EXCLUDED_NAME:
        return "a rule for this very name beats one for a suffix"
    if other.length < winner.length:
        return "the longer match wins"
    return f"of two as long, the {'include' if winner.kind is RuleKind.INCLUDE_SUFFIX else 'exclude'} wins"


def _is_clusters(rule: Rule) -> bool:
    """Whether names are the cluster's by ``rule``."""
    return rule.kind in _CLUSTERS


def _filled(pattern: str, below: Labels) -> str:
    """``NAME.rs.svc`` for this very name."""
    return pattern.replace("NAME", text_of(below), 1) if below else pattern
