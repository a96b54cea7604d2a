"""What the API server fills in when an object leaves it out, in the order in which it writes the fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .resources import ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SERVICES, Resource

Raw = dict[str, Any]


def with_defaults(resource: Resource, raw: Raw) -> Raw:
    """``raw`` with the defaults of its kind; addresses are not among them."""
    fill = _DEFAULTS.get(resource)
    return fill(raw) if fill else raw


def _namespace(raw: Raw) -> Raw:
    labels = {**(raw["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": raw["metadata"]["name"]}
    return {
        **raw,
        "metadata": {**raw["metadata"], "labels": labels},
        "spec": {"finalizers": ["kubernetes"], **(raw.get("spec") or {})},
        "status": {"phase": "Active", **(raw.get("status") or {})},
    }


def _service(raw: Raw) -> Raw:
    given = raw.get("spec") or {}
    kind = given.get("type") or "ClusterIP"
    outside = kind in ("NodePort", "LoadBalancer")
    filled: Raw = {
        "ports": [_service_port(port) for port in given.get("ports") or []],
        "selector": given.get("selector"),
        "clusterIP": given.get("clusterIP"),
        "clusterIPs": given.get("clusterIPs"),
        "type": kind,
        "sessionAffinity": given.get("sessionAffinity") or "None",
        "externalTrafficPolicy": given.get("externalTrafficPolicy") or ("Cluster" if outside else None),
        "allocateLoadBalancerNodePorts": True if kind == "LoadBalancer" else None,
        "internalTrafficPolicy": None if kind == "ExternalName" else "Cluster",
    }
    if filled["sessionAffinity"] == "ClientIP":
        filled["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    rest = {key: value for key, value in given.items() if key not in filled or key == "internalTrafficPolicy"}
    spec = {key: value for key, value in {**filled, **rest}.items() if value not in (None, [], {})}
    return {**raw, "spec": spec, "status": raw.get("status") or {"loadBalancer": {}}}


def _service_port(port: Raw) -> Raw:
    named = {"name": port["name"]} if port.get("name") else {}
    rest = {key: value for key, value in port.items() if key not in ("name", "protocol", "port", "targetPort")}
    return {
        **named,
        "protocol": port.get("protocol") or "TCP",
        "port": port.get("port"),
        "targetPort": port.get("targetPort") or port.get("port"),
        **rest,
    }


def _endpoint_slice(raw: Raw) -> Raw:
    ports = raw.get("ports")
    return {
        **raw,
        "endpoints": [{"conditions": {"ready": True}, **item} for item in raw.get("endpoints") or []] or None,
        "ports": [{"name": "", "protocol": "TCP", **port} for port in ports] if ports else None,
    }


_POD_SPEC: Raw = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "tolerations": [
        {"key": f"node.kubernetes.io/{fault}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for fault in ("not-ready", "unreachable")
    ],
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
_CONTAINER: Raw = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def _pod(raw: Raw) -> Raw:
    given = raw.get("spec") or {}
    containers = [_container(container) for container in given.get("containers") or []]
    return {
        **raw,
        "spec": {**_POD_SPEC, **given, "containers": containers},
        "status": raw.get("status") or {"phase": "Pending", "qosClass": "BestEffort"},
    }


def _container(given: Raw) -> Raw:
    ports = [{**port, "protocol": port.get("protocol") or "TCP"} for port in given.get("ports") or []]
    image = str(given.get("image") or "resolverd-demo")
    pull = "Always" if ":" not in image.rpartition("/")[2] or image.endswith(":latest") else "IfNotPresent"
    return {"image": image, **_CONTAINER, "imagePullPolicy": pull, **given} | ({"ports": ports} if ports else {})


def _node(raw: Raw) -> Raw:
    return {**raw, "spec": raw.get("spec") or {}, "status": raw.get("status") or {}}


_DEFAULTS: Mapping[Resource, Callable[[Raw], Raw]] = {
    NAMESPACES: _namespace,
    SERVICES: _service,
    ENDPOINT_SLICES: _endpoint_slice,
    PODS: _pod,
    NODES: _node,
}
