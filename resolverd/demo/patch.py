"""Patches: JSON merge patch (RFC 7386) and the part of strategic merge patch that kubectl's commands use."""

from __future__ import annotations

from typing import Any

from .status import StatusError

Json = Any

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "podIPs": "ip",
}
"""Lists of objects that a strategic patch merges by this key; ports by whichever of the two keys they have."""
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"


def merge_patch(target: Json, patch: Json) -> Json:
    """``target`` after ``patch``, by the algorithm of RFC 7386 section 2; neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge_patch(target: Json, patch: Json) -> Json:
    """As :func:`merge_patch`, but known lists of objects are merged by key, and ``$patch`` is obeyed.

    Directives that only order or retain keys are dropped: nothing here depends on order. StatusError 400 for a
    list element without its merge key.
    """
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            name = key.removeprefix(_DELETE_FROM)
            gone = value if isinstance(value, list) else [value]
            result[name] = [item for item in _listed(result.get(name)) if item not in gone]
        elif key.startswith(_ORDER) or key in ("$patch", "$retainKeys"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, list) and (merge_key := _merge_key(key, value)):
            result[key] = _merge_list(_listed(result.get(key)), value, merge_key)
        else:
            result[key] = strategic_merge_patch(result.get(key), value)
    return result


def _merge_key(field: str, value: list[Json]) -> str:
    """The key by which the list ``field`` is merged; empty when it is replaced whole."""
    if field == "ports":
        return "containerPort" if any(isinstance(item, dict) and "containerPort" in item for item in value) else "port"
    return _MERGE_KEYS.get(field, "")


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _merge_list(target: list[Json], patch: list[Json], key: str) -> list[Json]:
    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    result = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise StatusError(400, "BadRequest", f"map: {item!r} does not contain declared merge key: {key}")
        same = [index for index, old in enumerate(result) if isinstance(old, dict) and old.get(key) == item[key]]
        if item.get("$patch") == "delete":
            result = [old for index, old in enumerate(result) if index not in same]
        elif same:
            result[same[0]] = strategic_merge_patch(result[same[0]], item)
        else:
            result.append(strategic_merge_patch({}, item))
    return result
