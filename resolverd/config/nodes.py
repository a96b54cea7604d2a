"""From nodes of a YAML file to checked values, each with its place.

What is walked is the shape that the checks have, never the shape of the file: an alias that contains itself, or a
thousand of them in each other, is a list or a mapping where none belongs, and is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from resolverd.config.mistakes import MOST, Mistake, unknown
from resolverd.options import Check

_PREFIX = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_PREFIX}seq", f"{_PREFIX}map")
_CONSTRUCTED = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing"}
"""Plain scalars that are no text, and what they are instead."""
_TEXT = ("str", "timestamp", "value", "merge")
"""Plain scalars that mean something else to YAML 1.1 than to whoever wrote them."""

Spell = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Given:
    """One setting that somebody gave."""

    name: str
    """``dns.include-suffixes``"""
    value: Any
    origin: str
    items: tuple[str, ...] = ()
    """Where each item of a list comes from."""


@dataclass(slots=True)
class Nodes:
    """One file's nodes."""

    path: Path
    mistakes: list[Mistake]
    spell: Spell = field(default=str)
    """From a key as it is written to the key it means."""

    def place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def wrong(self, node: yaml.Node, what: str) -> None:
        if len(self.mistakes) < MOST:
            self.mistakes.append(Mistake(self.place(node), what))

    def entries(self, node: yaml.Node | None, what: str) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
        """Keys, their nodes and their values of a mapping; an empty node has none. A key twice is a mistake."""
        if node is None or is_null(node):
            return
        if not isinstance(node, yaml.MappingNode) or node.tag not in _COLLECTIONS:
            self.wrong(node, f"{what} must be a mapping of keys to values")
            return
        seen: dict[str, str] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(key, "a key must be text")
            elif key.tag == f"{_PREFIX}merge":
                self.wrong(key, "merge keys (<<) are not supported, write the values out")
            elif (name := self.spell(key.value)) in seen:
                self.wrong(key, f"key {key.value} a second time, the first is at {seen[name]}")
            else:
                seen[name] = f"{key.start_mark.line + 1}:{key.start_mark.column + 1}"
                yield name, key, value

    def given(self, name: str, check: Check, node: yaml.Node) -> Given | None:
        """The setting ``name``; None when there are mistakes in it, which are then noted."""
        before = len(self.mistakes)
        value = self._value(name, check, node)
        if len(self.mistakes) != before or before >= MOST:
            return None
        items = tuple(map(self.place, node.value)) if isinstance(node, yaml.SequenceNode) else ()
        return Given(name, value, self.place(node), items)

    def _value(self, name: str, check: Check, node: yaml.Node) -> Any:
        """The checked value, or anything at all when there are mistakes in it."""
        parts: Any
        before = len(self.mistakes)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            return self.wrong(node, f"{name}: the tag {node.tag} means nothing here")
        if check.item and isinstance(node, yaml.SequenceNode):
            inner = check.item
            parts = [self._value(f"{name}[{number}]", inner, item) for number, item in enumerate(node.value)]
        elif check.keys and isinstance(node, yaml.MappingNode):
            parts = self._record(name, check, node)
        else:
            parts = node
        if len(self.mistakes) != before:
            return None
        try:
            value = plain(parts) if isinstance(parts, yaml.Node) else parts
        except ValueError as error:
            return self.wrong(node, f"{name}: {error}")
        try:
            return check.accept(value)
        except ValueError as error:
            self.wrong(node, f"{name}: {_misread(check, node) or error}")

    def _record(self, name: str, check: Check, node: yaml.MappingNode) -> dict[str, Any]:
        found: dict[str, Any] = {}
        before = len(self.mistakes)
        for key, at, value in self.entries(node, name):
            if key in check.keys:
                found[key] = self._value(f"{name}.{key}", check.keys[key], value)
            else:
                self.wrong(at, f"{name}: {unknown(key, check.keys)}")
        missing = [key for key in check.keys if key not in found]
        if missing and len(self.mistakes) == before:
            self.wrong(node, f"{name}: {' and '.join(missing)} is missing")
        return found


def is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_PREFIX}null"


def _misread(check: Check, node: yaml.Node) -> str:
    """What became of a text that is none to YAML 1.1, such as a namespace ``no``; empty when none was meant."""
    kind = node.tag.removeprefix(_PREFIX)
    if not isinstance(node, yaml.ScalarNode) or kind not in _CONSTRUCTED or not node.value:
        return ""
    try:
        check.accept(node.value)
    except ValueError:
        return ""
    return f"YAML takes {node.value[:60]} for {_CONSTRUCTED[kind]}, put it in quotes"


def plain(node: yaml.Node) -> Any:
    """What a scalar says; an empty list or mapping for any other node. Raises ValueError."""
    if not isinstance(node, yaml.ScalarNode):
        return [] if isinstance(node, yaml.SequenceNode) else {}
    tag = node.tag.removeprefix(_PREFIX)
    if tag in _TEXT:
        return node.value
    if tag not in _CONSTRUCTED:
        raise ValueError(f"the tag {node.tag} means nothing here")
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise ValueError(f"{node.value[:60]!r} is no {tag}") from None
    if tag == "int" and node.value.lstrip("+") != str(value):  # 010 is 8 to YAML 1.1, and 1:30 is 90
        raise ValueError(f"YAML takes {node.value[:60]} for {value}, write that or put it in quotes")
    return value
