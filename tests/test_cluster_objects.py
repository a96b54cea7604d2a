"""What of a Service and an EndpointSlice matters for reaching pods."""

from __future__ import annotations

from typing import Any

import pytest

from resolverd.cluster.objects import AFFINITY_SECONDS, parse_endpoint_slice, parse_service

METADATA = {"name": "web", "namespace": "shop"}


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        (None, AFFINITY_SECONDS),
        ({"clientIP": {"timeoutSeconds": 60}}, 60),
        ({"clientIP": {}}, AFFINITY_SECONDS),
        ({"clientIP": {"timeoutSeconds": True}}, AFFINITY_SECONDS),
        ({"clientIP": {"timeoutSeconds": -1}}, AFFINITY_SECONDS),
    ],
)
def test_how_long_a_client_keeps_its_pod(config: Any, seconds: int) -> None:
    spec = {"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    assert parse_service({"metadata": METADATA, "spec": spec}).affinity_seconds == seconds


def test_addresses_from_outside_that_the_cluster_serves_itself() -> None:
    ingress = [{"ip": "203.0.113.1"}, {"hostname": "lb.example"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]
    service = parse_service(
        {
            "metadata": METADATA,
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "externalIPs": ["198.51.100.1"]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }
    )
    assert service.external_addresses == ("198.51.100.1", "203.0.113.1")


@pytest.mark.parametrize(
    ("conditions", "serving"), [({}, True), ({"serving": None}, True), ({"serving": False}, False)]
)
def test_an_endpoint_serves_unless_it_says_otherwise(conditions: dict[str, object], serving: bool) -> None:
    raw = {"metadata": METADATA, "endpoints": [{"addresses": ["10.244.0.1"], "conditions": conditions}]}
    assert parse_endpoint_slice(raw).endpoints[0].serving is serving
