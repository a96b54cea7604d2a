"""What the API says about itself: versions, groups and resources."""

from __future__ import annotations

from typing import Any

from .resources import ALL, Resource

Raw = dict[str, Any]

VERSION: Raw = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2+resolverd-demo",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}

HEALTH_PATHS = frozenset({"/healthz", "/livez", "/readyz"})


def document(path: str, server: str) -> Raw | None:
    """The discovery document at ``path``; ``server`` is our own ``host:port``. None when there is none."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            where = {"clientCIDR": "0.0.0.0/0", "serverAddress": server}
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [where]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _GROUPS]}
        case ["apis", name] if name in _GROUPS:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        case ["api", "v1"]:
            return _resource_list("")
        case ["apis", name, "v1"] if name in _GROUPS:
            return _resource_list(name)
    return None


_GROUPS = tuple(dict.fromkeys(resource.group for resource in ALL if resource.group))


def _group(name: str) -> Raw:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> Raw:
    rows = [row for resource in ALL if resource.group == group for row in _rows(resource)]
    head: Raw = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    return {**head, "groupVersion": f"{group}/v1" if group else "v1", "resources": rows}


def _rows(resource: Resource) -> list[Raw]:
    row: Raw = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        **({"shortNames": list(resource.short)} if resource.short else {}),
        **({"categories": ["all"]} if resource.in_all else {}),
    }
    return [row] + [
        {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": list(verbs),
        }
        for name, kind, verbs in resource.subresources
    ]
