"""The query of a list or watch, parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .resources import Target
from .selectors import Selector, field_values, matches, parse_fields, parse_labels
from .status import StatusError, bad_request, invalid

Raw = dict[str, Any]

_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What to list or watch, and how."""

    target: Target
    labels: Selector
    fields: Selector
    version: int | None
    """None: not given."""
    exact: bool
    limit: int
    """0: no limit."""
    continuation: str
    watch: bool
    bookmarks: bool
    initial_events: bool | None
    timeout: float | None
    """Seconds."""

    @classmethod
    def parse(cls, target: Target, query: Mapping[str, str]) -> ListOptions:
        """StatusError 400, 422, 500 (which is what the real server answers to a version that is no number)."""
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = ",".join(filter(None, [fields, f"metadata.name={target.name}"]))
        match_rule = query.get("resourceVersionMatch", "")
        initial = query.get("sendInitialEvents")
        if initial is not None and match_rule != "NotOlderThan":
            why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid(target.resource, "", [("resourceVersionMatch", why)])
        return cls(
            target=target,
            labels=parse_labels(query.get("labelSelector", "")),
            fields=parse_fields(fields, target.resource.selectable),
            version=_version(query.get("resourceVersion", "")),
            exact=match_rule == "Exact",
            limit=_number(query, "limit"),
            continuation=query.get("continue", ""),
            watch=query.get("watch", "") in _TRUE,
            bookmarks=query.get("allowWatchBookmarks", "") in _TRUE,
            initial_events=None if initial is None else initial in _TRUE,
            timeout=_number(query, "timeoutSeconds") or None,
        )

    def selects(self, raw: Raw) -> bool:
        """Whether ``raw`` is among what was asked for."""
        metadata = raw["metadata"]
        if self.target.namespace and metadata.get("namespace") != self.target.namespace:
            return False
        if self.labels and not matches(self.labels, metadata.get("labels", {})):
            return False
        return not self.fields or matches(self.fields, field_values(raw, self.fields))


def _version(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        why = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise StatusError(500, "", f"resourceVersion: {why}")
    return int(text)


def _number(query: Mapping[str, str], key: str) -> int:
    text = query.get(key, "0")
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f'{key}: Invalid value: "{text}": must be a number that is not negative')
    return int(text)
