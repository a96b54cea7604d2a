"""The mistakes that the API refuses: as far as a demo needs them, in its words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resolverd.names import is_label

from .resources import ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, Resource
from .status import invalid

Raw = dict[str, Any]
Cause = tuple[str, str]

_RFC_1123 = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


def validate_name(resource: Resource, name: str) -> None:
    """StatusError 422. Services and namespaces are single labels; other names may have several."""
    if not name:
        raise invalid(resource, name, [("metadata.name", "Required value: name or generateName is required")])
    single = resource in (NAMESPACES, SERVICES)
    labels = [name] if single else name.split(".")
    if len(name) > 253 or not all(is_label(label) for label in labels):
        raise invalid(resource, name, [("metadata.name", f'Invalid value: "{name}": {_RFC_1123}')])


def validate(resource: Resource, raw: Raw) -> None:
    """StatusError 422 with every cause."""
    check = _CHECKS.get(resource)
    causes = list(check(raw)) if check else []
    if causes:
        raise invalid(resource, raw["metadata"]["name"], causes)


def _service(raw: Raw) -> Iterator[Cause]:
    spec = raw["spec"]
    if spec["type"] not in _TYPES:
        listed = ", ".join(f'"{known}"' for known in _TYPES)
        yield "spec.type", f'Unsupported value: "{spec["type"]}": supported values: {listed}'
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        yield "spec.externalName", "Required value"
    headless = spec.get("clusterIP") == "None"
    ports = spec.get("ports", [])
    if not ports and not headless and spec["type"] != "ExternalName":
        yield "spec.ports", "Required value"
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            yield f"{where}.name", "Required value"
        yield from _port_number(f"{where}.port", port.get("port"))
        if isinstance(port["targetPort"], int):
            yield from _port_number(f"{where}.targetPort", port["targetPort"])
    names = [port["name"] for port in ports if port.get("name")]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "spec.ports", f'Duplicate value: "{name}"'


def _pod(raw: Raw) -> Iterator[Cause]:
    if not raw["spec"]["containers"]:
        yield "spec.containers", "Required value"
    for index, container in enumerate(raw["spec"]["containers"]):
        if not container.get("name"):
            yield f"spec.containers[{index}].name", "Required value"
        for number, port in enumerate(container.get("ports", [])):
            yield from _port_number(
                f"spec.containers[{index}].ports[{number}].containerPort", port.get("containerPort")
            )


def _endpoint_slice(raw: Raw) -> Iterator[Cause]:
    if raw.get("addressType") not in ("IPv4", "IPv6", "FQDN"):
        yield "addressType", 'Required value: supported values: "FQDN", "IPv4", "IPv6"'
    for index, endpoint in enumerate(raw["endpoints"] or []):
        if not endpoint.get("addresses"):
            yield f"endpoints[{index}].addresses", "Required value: must contain at least 1 address"


def _port_number(where: str, value: int | None) -> Iterator[Cause]:
    if value is None:
        yield where, "Required value"
    elif not 1 <= value <= 65535:
        yield where, f"Invalid value: {value}: must be between 1 and 65535, inclusive"


_CHECKS: Mapping[Resource, Callable[[Raw], Iterator[Cause]]] = {
    SERVICES: _service,
    PODS: _pod,
    ENDPOINT_SLICES: _endpoint_slice,
}
