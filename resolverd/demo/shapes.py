"""The types of the fields that we read: checked once, at the door, so that nothing behind it has to doubt them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .resources import (
    ACCESS_REVIEWS,
    CONFIGMAPS,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    RULES_REVIEWS,
    SERVICE_CIDRS,
    SERVICES,
    Resource,
)
from .status import bad_request

Raw = dict[str, Any]
Shape = Any
"""A type or tuple of types; ``[shape]``: a list of them; ``{field: shape}``, where ``field!`` must be there.

The field ``*`` stands for all.
"""

_TEXTS = {"*": str}
_METADATA = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "resourceVersion": str,
    "labels": _TEXTS,
    "annotations": _TEXTS,
    "ownerReferences": [{"kind!": str, "name!": str, "uid!": str}],
}
_SERVICE_SPEC = {
    "ports": [{"name": str, "protocol": str, "port": int, "targetPort": (int, str), "nodePort": int}],
    "selector": _TEXTS,
    "clusterIP": str,
    "clusterIPs": [str],
    "externalIPs": [str],
    "externalName": str,
    "externalTrafficPolicy": str,
    "internalTrafficPolicy": str,
    "ipFamilies": [str],
    "ipFamilyPolicy": str,
    "publishNotReadyAddresses": bool,
    "sessionAffinity": str,
    "type": str,
}
_POD_SPEC = {
    "containers": [
        {"name": str, "image": str, "ports": [{"name": str, "protocol": str, "containerPort": int}]},
    ],
    "hostname": str,
    "nodeName": str,
    "subdomain": str,
}
_ENDPOINT = {"addresses": [str], "conditions": {"*": bool}, "hostname": str, "nodeName": str}
_NODE_STATUS = {
    "addresses": [{"type!": str, "address!": str}],
    "conditions": [{"type!": str, "status!": str}],
    "nodeInfo": _TEXTS,
}
_ATTRIBUTES = dict.fromkeys(("namespace", "verb", "group", "version", "resource", "subresource", "name"), str)
_SHAPES: Mapping[Resource, Shape] = {
    NAMESPACES: {"spec": {}, "status": {}},
    SERVICES: {"spec": _SERVICE_SPEC, "status": {"loadBalancer": {"ingress": [{"ip!": str}]}}},
    PODS: {"spec": _POD_SPEC, "status": {}},
    ENDPOINT_SLICES: {
        "addressType": str,
        "endpoints": [_ENDPOINT],
        "ports": [{"name": str, "protocol": str, "port": int}],
    },
    NODES: {"spec": {}, "status": _NODE_STATUS},
    CONFIGMAPS: {"data": _TEXTS},
    SERVICE_CIDRS: {"spec": {"cidrs": [str]}},
    ACCESS_REVIEWS: {"spec": {"resourceAttributes": _ATTRIBUTES, "nonResourceAttributes": _TEXTS}},
    RULES_REVIEWS: {"spec": {"namespace": str}},
}


def fitted(resource: Resource, given: Raw) -> Raw:
    """A deep copy of ``given`` without nulls, which mean "not set". StatusError 400 when a field has another type."""
    shape = {"metadata": _METADATA, **_SHAPES.get(resource, {})}
    try:
        copy: Raw = _fit(given, shape, "")
    except TypeError as error:
        why = f"json: cannot unmarshal: {error}"
        raise bad_request(f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {why}') from None
    return copy


def _fit(value: Any, shape: Shape, path: str) -> Any:
    """TypeError that names the field."""
    if isinstance(shape, dict | list) and not isinstance(value, type(shape)):
        raise TypeError(f"{path.lstrip('.')} is no {'object' if isinstance(shape, dict) else 'list'}")
    if isinstance(shape, type | tuple) and not _is_a(value, shape):
        raise TypeError(f"{path.lstrip('.')} is no {_called(shape)}")
    if isinstance(value, dict):
        fields = {key.rstrip("!"): inner for key, inner in shape.items()} if isinstance(shape, dict) else {}
        for key in shape or ():
            if key.endswith("!") and value.get(key[:-1]) is None:
                raise TypeError(f"{path.lstrip('.')} has no {key[:-1]}")
        return {
            key: _fit(item, fields.get(key, fields.get("*")), f"{path}.{key}")
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        element = shape[0] if isinstance(shape, list) else None
        return [_fit(item, element, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def _is_a(value: Any, shape: type | tuple[type, ...]) -> bool:
    """As JSON has it: true and false are no numbers."""
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))


def _called(shape: type | tuple[type, ...]) -> str:
    names = {str: "text", int: "number", bool: "boolean"}
    return " or ".join(names[kind] for kind in (shape if isinstance(shape, tuple) else (shape,)))
