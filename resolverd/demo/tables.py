"""Objects as rows: the ``Table`` from which ``kubectl get`` prints its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .resources import (
    CONFIGMAPS,
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SERVICE_CIDRS,
    SERVICES,
    Resource,
)

Raw = dict[str, Any]


def is_wanted(accept: str) -> bool:
    """Whether an Accept header prefers tables."""
    return "as=Table" in accept.split(",", maxsplit=1)[0]


def table(resource: Resource, answer: Raw, include: str) -> Raw:
    """``answer``, an object or a list of them, as a Table.

    ``include``: ``None``, ``Object`` or ``Metadata`` (also when empty), what each row carries besides its cells.
    """
    columns, cells = _TABLES[resource]
    objects = answer.get("items", [answer])
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": answer["metadata"] if "items" in answer else {
            "resourceVersion": answer["metadata"]["resourceVersion"]
        },
        "columnDefinitions": [_column(text) for text in columns],
        "rows": [{"cells": cells(raw), "object": _carried(resource, raw, include)} for raw in objects],
    }  # fmt: skip


def _column(text: str) -> Raw:
    """``Name`` is a column; ``IP+`` one that only ``-o wide`` shows."""
    name = text.removesuffix("+")
    return {
        "name": name,
        "type": "string",
        "format": "name" if name == "Name" else "",
        "description": "",
        "priority": int(text != name),
    }


def _carried(resource: Resource, raw: Raw, include: str) -> Raw | None:
    if include == "None":
        return None
    if include == "Object":
        return {**raw, "kind": resource.kind, "apiVersion": resource.api_version}
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": raw["metadata"]}


def age(stamp: str, moment: datetime) -> str:
    """How long ago ``stamp`` was, as kubectl shortens it."""
    seconds = max(0, int((moment - datetime.fromisoformat(stamp)).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if days < 2 else f"{days}d"


def _age(raw: Raw) -> str:
    return age(raw["metadata"]["creationTimestamp"], datetime.now(UTC))


def _namespace(raw: Raw) -> list[Any]:
    return [raw["metadata"]["name"], raw["status"]["phase"], _age(raw)]


def _service(raw: Raw) -> list[Any]:
    spec = raw["spec"]
    external = spec.get("externalName") or ",".join(spec.get("externalIPs", [])) or "<none>"
    if spec["type"] == "LoadBalancer":
        given = [entry["ip"] for entry in raw["status"]["loadBalancer"].get("ingress", [])]
        external = ",".join(given) or "<pending>"
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if 'nodePort' in port else ''}/{port['protocol']}"
        for port in spec.get("ports", [])
    ]
    return [
        raw["metadata"]["name"], spec["type"], spec.get("clusterIP") or "<none>", external,
        ",".join(ports) or "<none>", _age(raw), _pairs(spec.get("selector", {})),
    ]  # fmt: skip


def _pod(raw: Raw) -> list[Any]:
    statuses = raw["status"].get("containerStatuses", [])
    waiting = [entry["state"]["waiting"]["reason"] for entry in statuses if "waiting" in entry["state"]]
    phase = "Terminating" if "deletionTimestamp" in raw["metadata"] else raw["status"]["phase"]
    ready = f"{sum(entry['ready'] for entry in statuses)}/{len(raw['spec']['containers'])}"
    restarts = str(sum(entry["restartCount"] for entry in statuses))
    where = [raw["status"].get("podIP", "<none>"), raw["spec"].get("nodeName", "<none>"), "<none>", "<none>"]
    return [raw["metadata"]["name"], ready, (waiting or [phase])[0], restarts, _age(raw), *where]


def _endpoint_slice(raw: Raw) -> list[Any]:
    ports = [str(port.get("port")) for port in raw.get("ports") or []]
    addresses = [address for endpoint in raw.get("endpoints") or [] for address in endpoint["addresses"]]
    shown = ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "")
    return [
        raw["metadata"]["name"], raw["addressType"], ",".join(ports) or "<unset>", shown or "<unset>", _age(raw)
    ]  # fmt: skip


def _node(raw: Raw) -> list[Any]:
    status = raw["status"]
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", []))
    address = next((entry["address"] for entry in status.get("addresses", [])), "<none>")
    version = status.get("nodeInfo", {}).get("kubeletVersion", "")
    return [raw["metadata"]["name"], "Ready" if ready else "NotReady", "<none>", _age(raw), version, address]


def _event(raw: Raw) -> list[Any]:
    about = raw.get("involvedObject", {})
    subject = f"{about.get('kind', '').lower()}/{about.get('name', '')}"
    return [_age(raw), raw.get("type", ""), raw.get("reason", ""), subject, raw.get("message", "")]


def _config_map(raw: Raw) -> list[Any]:
    return [raw["metadata"]["name"], str(len(raw.get("data", {}))), _age(raw)]


def _service_cidr(raw: Raw) -> list[Any]:
    return [raw["metadata"]["name"], ",".join(raw["spec"]["cidrs"]), _age(raw)]


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"


_TABLES: Mapping[Resource, tuple[tuple[str, ...], Callable[[Raw], list[Any]]]] = {
    NAMESPACES: (("Name", "Status", "Age"), _namespace),
    SERVICES: (("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"), _service),
    PODS: (
        ("Name", "Ready", "Status", "Restarts", "Age", "IP+", "Node+", "Nominated Node+", "Readiness Gates+"),
        _pod,
    ),
    ENDPOINT_SLICES: (("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice),
    NODES: (("Name", "Status", "Roles", "Age", "Version", "Internal-IP+"), _node),
    EVENTS: (("Last Seen", "Type", "Reason", "Object", "Message"), _event),
    CONFIGMAPS: (("Name", "Data", "Age"), _config_map),
    SERVICE_CIDRS: (("Name", "CIDRs", "Age"), _service_cidr),
}
