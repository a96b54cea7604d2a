"""The EndpointSlices that a service and its pods give, as kube-controller-manager makes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .addresses import generated_name

Raw = dict[str, Any]

MANAGED_BY = "endpointslice-controller.k8s.io"
SLICE_CAPACITY = 100
"""Endpoints in one slice (kube-controller-manager's --max-endpoints-per-slice)."""

_Ports = tuple[tuple[str, str, int], ...]


def selects(service: Raw, pod: Raw) -> bool:
    """Whether ``service`` has a selector and ``pod`` fits it."""
    selector = service["spec"].get("selector")
    labels = pod["metadata"].get("labels", {})
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def slices(service: Raw, pods: Iterable[Raw]) -> list[Raw]:
    """The slices of ``service`` as objects to create, in a fixed order; ``pods`` are those it selects.

    One for each family and each set of ports (a named target port may be another number in another pod), split at
    :data:`SLICE_CAPACITY`. A service without endpoints has one empty slice for each family.
    """
    if service["spec"]["type"] == "ExternalName" or not service["spec"].get("selector"):
        return []
    chosen = list(pods)
    made: list[Raw] = []
    for family in service["spec"]["ipFamilies"]:
        groups: dict[_Ports, list[Raw]] = defaultdict(list)
        for pod in chosen:
            address = _address(pod, family)
            if address:
                groups[_ports(service, pod)].append(_endpoint(service, pod, address))
        for ports, endpoints in sorted(groups.items()) or [((), [])]:
            made += [
                _slice(service, family, ports, endpoints[start : start + SLICE_CAPACITY])
                for start in range(0, max(len(endpoints), 1), SLICE_CAPACITY)
            ]
    return [_named(raw, service, index) for index, raw in enumerate(made)]


def _address(pod: Raw, family: str) -> str:
    """The pod's address of this family; empty for pods that have none, or have ended."""
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return ""
    addresses = [entry["ip"] for entry in pod["status"].get("podIPs", [])]
    return next((address for address in addresses if (":" in address) == (family == "IPv6")), "")


def _endpoint(service: Raw, pod: Raw, address: str) -> Raw:
    metadata, spec = pod["metadata"], pod["spec"]
    terminating = "deletionTimestamp" in metadata
    conditions = pod["status"].get("conditions", [])
    serving = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    published = service["spec"].get("publishNotReadyAddresses") is True
    named = spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]
    return {
        "addresses": [address],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        **({"hostname": spec["hostname"]} if named else {}),
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        **({"nodeName": spec["nodeName"]} if spec.get("nodeName") else {}),
    }


def _ports(service: Raw, pod: Raw) -> _Ports:
    """(name, protocol, number) of each port that this pod has; a named target port that it lacks is left out."""
    found: list[tuple[str, str, int]] = []
    for port in service["spec"].get("ports", []):
        number = _target(port["targetPort"], port["protocol"], pod)
        if number is not None:
            found.append((port.get("name", ""), port["protocol"], number))
    return tuple(found)


def _target(wanted: int | str, protocol: str, pod: Raw) -> int | None:
    if isinstance(wanted, int):
        return wanted
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            if port.get("name") == wanted and port["protocol"] == protocol:
                number: int = port["containerPort"]
                return number
    return None


def _slice(service: Raw, family: str, ports: _Ports, endpoints: list[Raw]) -> Raw:
    listed = [{"name": name, "protocol": protocol, "port": port} for name, protocol, port in ports]
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "addressType": family,
        "endpoints": endpoints or None,
        "ports": listed or None,
    }


def _named(raw: Raw, service: Raw, index: int) -> Raw:
    """``raw`` with the metadata that ties it to its service; the name depends on the service and ``index`` only."""
    owner = service["metadata"]
    name = f"{owner['name']}-"
    copied: Mapping[str, str] = owner.get("labels", {})
    labels = {
        **copied,
        "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
        "kubernetes.io/service-name": owner["name"],
        **({"service.kubernetes.io/headless": ""} if service["spec"].get("clusterIP") == "None" else {}),
    }
    reference = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": owner["name"],
        "uid": owner["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "name": generated_name(name, owner["namespace"], owner["name"], str(index)),
        "generateName": name,
        "namespace": owner["namespace"],
        "labels": labels,
        "ownerReferences": [reference],
    }
    return {**raw, "metadata": metadata}
