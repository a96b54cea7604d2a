"""From the octets of a list's page, or one watched object, to slim objects: parsed at the door, never fatal.

A page is read in a thread, so that the event loop goes on. What cannot be what it says it is has no object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import objects
from .objects import ClusterObject, MalformedObjectError
from .snapshot import Key

Parse = Callable[[objects.Raw], ClusterObject]


@dataclass(frozen=True, slots=True)
class Item:
    """One object of the API."""

    key: Key
    version: int | None
    """Its resourceVersion where that is a number, as it is with every known server; None: not to be compared."""
    object: ClusterObject | None
    """None: malformed."""
    why: str = ""
    """What is wrong with it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: tuple[Item, ...]
    version: str
    """The resourceVersion of the whole list."""
    token: str
    """What to continue with; empty: this is the last page."""


def read_page(data: bytes, parse: Parse) -> Page:
    """Raises ValueError and RecursionError for what is no list at all."""
    page = json.loads(data)
    if not isinstance(page, dict) or not isinstance(page.get("items"), list | None):
        raise ValueError("an answer that is no list")
    metadata = mapping(page.get("metadata"))
    items = tuple(item for raw in page.get("items") or () if (item := read_item(raw, parse)) is not None)
    return Page(items, str(metadata.get("resourceVersion") or ""), str(metadata.get("continue") or ""))


def read_item(raw: Any, parse: Parse) -> Item | None:
    """What ``raw`` is; None when it does not even have a name."""
    metadata = mapping(mapping(raw).get("metadata"))
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not isinstance(name, str) or not isinstance(namespace, str) or not name:
        return None
    version = number(metadata.get("resourceVersion"))
    try:
        return Item((namespace, name), version, parse(raw))
    except (MalformedObjectError, ValueError, RecursionError) as error:
        return Item((namespace, name), version, None, str(error))


def malformed(items: tuple[Item, ...]) -> Iterator[Item]:
    """Those that cannot be what they say they are."""
    return (item for item in items if item.object is None)


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def number(version: Any) -> int | None:
    """A resourceVersion as a number; None when it is none."""
    known = isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 20
    return int(version) if known else None
