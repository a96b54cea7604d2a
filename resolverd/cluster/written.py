"""Slim objects written as the API's own JSON, so that the parsers read them back and trust them as little.

``parse(written(item)) == item`` for everything a parser returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .endpoints import Endpoint
from .objects import CLUSTER_DNS_LABEL, SERVICE_NAME_LABEL, ClusterObject, EndpointSlice, Namespace, Service

Raw = dict[str, Any]


def written(item: ClusterObject) -> Raw | None:
    """``item`` as the API would give it, with no more than the parsers read; None for a kind that is not kept."""
    writer = _WRITERS.get(type(item))
    return writer(item) if writer else None


def _namespace(item: Namespace) -> Raw:
    return {"metadata": {"name": item.name}}


def _service(item: Service) -> Raw:
    metadata: Raw = {"namespace": item.namespace, "name": item.name}
    if item.is_cluster_dns:
        metadata["labels"] = dict([CLUSTER_DNS_LABEL])
    spec: Raw = {"type": item.type, "clusterIPs": ["None"] if item.headless else list(item.cluster_ips)}
    if item.type == "ExternalName":
        spec["externalName"] = item.external_name
    spec["ports"] = [
        {"name": p.name, "protocol": p.protocol, "port": p.port, "targetPort": p.target_port} for p in item.ports
    ]
    spec["sessionAffinity"] = item.session_affinity
    spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": item.affinity_seconds}}
    spec["externalIPs"] = list(item.external_addresses)
    return {"metadata": metadata, "spec": spec}


def _slice(item: EndpointSlice) -> Raw:
    metadata = {"namespace": item.namespace, "name": item.name, "labels": {SERVICE_NAME_LABEL: item.service}}
    ports = [{"name": p.name, "protocol": p.protocol, "port": p.port} for p in item.ports]
    return {"metadata": metadata, "endpoints": [_endpoint(e) for e in item.endpoints], "ports": ports}


def _endpoint(item: Endpoint) -> Raw:
    raw: Raw = {"addresses": list(item.addresses)}
    if item.hostname:
        raw["hostname"] = item.hostname
    if not item.ready or item.terminating or not item.serving:
        raw["conditions"] = {"ready": item.ready, "terminating": item.terminating, "serving": item.serving}
    if item.pod:
        raw["targetRef"] = {"kind": "Pod", "name": item.pod}
    return raw


_WRITERS: Mapping[type, Callable[[Any], Raw]] = {Namespace: _namespace, Service: _service, EndpointSlice: _slice}
