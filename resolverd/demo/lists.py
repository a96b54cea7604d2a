"""Lists: whole, or in chunks that all show the same moment."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from .options import ListOptions
from .status import StatusError, bad_request, expired
from .store import Store

Raw = dict[str, Any]

_CURRENT = -1
"""Version in a continue token that accepts an inconsistent rest of the list."""


def list_objects(store: Store, options: ListOptions) -> Raw:
    """The list object that ``options`` ask for. StatusError 400, 410, 504."""
    resource = options.target.resource
    if options.continuation:
        version, start = _read_token(options.continuation)
        found = _rest(store, options, version, start)
        version = store.version if version == _CURRENT else version
    else:
        version = store.version
        _check_version(store, options)
        found = store.objects(resource, options.target.namespace)
    chosen = [raw for raw in found if options.selects(raw)]
    metadata: Raw = {"resourceVersion": str(version)}
    if options.limit and len(chosen) > options.limit:
        rest = len(chosen) - options.limit
        chosen = chosen[: options.limit]
        if version == store.version:
            store.snapshot(resource, version)
        metadata["continue"] = _token(version, _key(options, chosen[-1]) + "\0")
        if not (options.labels or options.fields):
            metadata["remainingItemCount"] = rest
    items = [{key: value for key, value in raw.items() if key not in ("kind", "apiVersion")} for raw in chosen]
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": items}


def _check_version(store: Store, options: ListOptions) -> None:
    version = options.version
    if version is None or version == 0:
        return
    if version > store.version:
        text = f"Too large resource version: {version}, current: {store.version}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        raise StatusError(504, "Timeout", text, {"causes": causes, "retryAfterSeconds": 1})
    if options.exact and version != store.version:
        raise expired("The resourceVersion for the provided list is too old.")


def _rest(store: Store, options: ListOptions, version: int, start: str) -> list[Raw]:
    """The objects from the key ``start`` on, as they were at ``version``."""
    resource, namespace = options.target.resource, options.target.namespace
    if version == _CURRENT:
        found = store.objects(resource, namespace)
    else:
        try:
            found = store.snapshot(resource, version)
        except StatusError as error:
            error.continuation = _token(_CURRENT, start)
            raise
    return [raw for raw in found if _key(options, raw) >= start]


def _key(options: ListOptions, raw: Raw) -> str:
    """Where ``raw`` stands in the list, as text that sorts like the list."""
    metadata = raw["metadata"]
    if options.target.resource.namespaced and not options.target.namespace:
        return f"{metadata['namespace']}/{metadata['name']}"
    return str(metadata["name"])


def _token(version: int, start: str) -> str:
    """As the real server writes them, though clients must not look inside."""
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, str]:
    """Version and start key. StatusError 400."""
    try:
        read = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = read["rv"], read["start"]
    except (ValueError, KeyError, TypeError):
        version, start = None, None
    if not isinstance(version, int) or not isinstance(start, str):
        raise bad_request("invalid continue token: continue key is not valid: not a token of this server")
    return version, start
