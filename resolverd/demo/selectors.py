"""Label and field selectors, in the grammar of the Kubernetes API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .status import bad_request

_KEY = r"(?P<key>(?:[A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_SET = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"{_KEY}\s*(?P<operator>==|=|!=)\s*(?P<values>{_VALUE})")
_EXISTS = re.compile(rf"(?P<operator>!?)\s*{_KEY}")
_COMMA = re.compile(r"\s*,\s*")
_LABEL_VALUE = re.compile(_VALUE)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector."""

    key: str
    values: frozenset[str] | None
    """None: any value."""
    negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """``key!=value`` and ``notin`` also hold when there is no such label."""
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found is not self.negated


Selector = tuple[Requirement, ...]
"""All must hold; the empty selector selects everything."""


def matches(selector: Selector, values: Mapping[str, str]) -> bool:
    return all(requirement.holds(values) for requirement in selector)


def parse_labels(text: str) -> Selector:
    """A label selector, such as ``app=web,tier in (a, b),!old``. StatusError 400 when it is none."""
    requirements: list[Requirement] = []
    rest = text.strip()
    while rest:
        for pattern in (_SET, _EQUALITY, _EXISTS):
            found = pattern.match(rest)
            comma = _COMMA.match(rest, found.end()) if found else None
            if found and (comma or found.end() == len(rest)):
                break
        else:
            raise bad_request(f"unable to parse requirement: found {rest!r}, expected a requirement and then ','")
        requirements.append(_requirement(found))
        if comma and comma.end() == len(rest):
            raise bad_request("unable to parse requirement: found '', expected: identifier after ','")
        rest = rest[comma.end() :] if comma else ""
    return tuple(requirements)


def _requirement(found: re.Match[str]) -> Requirement:
    operator = found["operator"]
    if "values" not in found.re.groupindex:
        return Requirement(found["key"], None, operator == "!")
    values = [value.strip() for value in found["values"].split(",")] if "in" in operator else [found["values"]]
    for value in values:
        if not _LABEL_VALUE.fullmatch(value):
            raise bad_request(f"values[0][{found['key']}]: Invalid value: {value!r}: no valid label value")
    return Requirement(found["key"], frozenset(values), operator in ("!=", "notin"))


def parse_fields(text: str, selectable: frozenset[str]) -> Selector:
    """A field selector, such as ``metadata.name=web``. StatusError 400 for fields that cannot be selected by."""
    requirements: list[Requirement] = []
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"(?P<key>[^=!]+)(?P<operator>==|=|!=)(?P<value>.*)", term)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        if found["key"] not in selectable:
            raise bad_request(f"field label not supported: {found['key']}")
        requirements.append(Requirement(found["key"], frozenset({found["value"]}), found["operator"] == "!="))
    return tuple(requirements)


def field_values(raw: Mapping[str, Any], selector: Selector) -> dict[str, str]:
    """The fields of an object that ``selector`` asks about, as text; what is missing is empty."""
    return {requirement.key: _field(raw, requirement.key) for requirement in selector}


def _field(raw: Mapping[str, Any], path: str) -> str:
    value: Any = raw
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
