"""The cluster as a whole: what its controllers make of objects, and the faults it has on demand."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from resolverd.cluster.objects import parse_endpoint_slice, parse_namespace, parse_service
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.status import StatusError
from resolverd.errors import HostError

Raw = dict[str, Any]


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster() as cluster:
        yield cluster


@pytest.fixture
async def session(cluster: DemoCluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=cluster.server) as session:
        yield session


def slices_of(cluster: DemoCluster, service: str, namespace: str = "shop") -> list[Raw]:
    label = "kubernetes.io/service-name"
    found = cluster.objects("endpointslices", namespace)
    return [raw for raw in found if raw["metadata"]["labels"][label] == service]


def pod(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Raw:
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
    metadata = {"name": name, "namespace": "shop", "labels": {"app": "web"}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def service(name: str, **spec: Any) -> Raw:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def test_the_samples_show_every_kind_of_service_and_all_of_them_parse(cluster: DemoCluster) -> None:
    services = [parse_service(raw) for raw in cluster.objects("services")]
    slices = [parse_endpoint_slice(raw) for raw in cluster.objects("endpointslices")]
    assert {"shop", "payments", "rs", "dev"} <= {parse_namespace(raw).name for raw in cluster.objects("namespaces")}
    assert {item.type for item in services} == {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}
    assert any(item.headless for item in services)
    assert any(item.external_name for item in services)
    assert any(len(item.cluster_ips) == 2 for item in services)
    assert any(port.protocol == "UDP" for item in services for port in item.ports)
    assert any(isinstance(port.target_port, str) for item in services for port in item.ports)
    assert any(not item.endpoints for item in slices)
    assert any(not endpoint.ready for item in slices for endpoint in item.endpoints)
    assert {"db-0", "db-1"} <= {endpoint.hostname for item in slices for endpoint in item.endpoints}


async def test_two_clusters_are_the_same_but_for_the_time(cluster: DemoCluster) -> None:
    async with DemoCluster() as other:
        for kind in ("services", "endpointslices", "pods"):
            ours, theirs = cluster.objects(kind), other.objects(kind)
            assert [raw["metadata"]["uid"] for raw in ours] == [raw["metadata"]["uid"] for raw in theirs]
            assert [raw["spec"] for raw in ours if "spec" in raw] == [raw["spec"] for raw in theirs if "spec" in raw]


def test_slices_follow_pods_and_their_readiness(cluster: DemoCluster) -> None:
    (before,) = slices_of(cluster, "web")
    cluster.create(pod("web-9"))
    cluster.create(pod("web-8", {"demo.resolverd.io/state": "unready"}))
    cluster.delete("pods", "web-1", "shop")
    (after,) = slices_of(cluster, "web")
    ready = {item["targetRef"]["name"]: item["conditions"]["ready"] for item in after["endpoints"]}
    assert ready == {"web-2": True, "web-3": True, "web-8": False, "web-9": True}
    assert after["metadata"]["name"] == before["metadata"]["name"]
    cluster.patch("pods", "web-9", {"metadata": {"labels": {"app": "other"}}}, "shop")
    assert len(slices_of(cluster, "web")[0]["endpoints"]) == 3


def test_slices_follow_the_service(cluster: DemoCluster) -> None:
    cluster.patch("services", "web", {"spec": {"ports": [{"port": 81, "name": "x", "targetPort": "http"}]}}, "shop")
    (found,) = slices_of(cluster, "web")
    assert found["ports"] == [{"name": "x", "protocol": "TCP", "port": 8080}]
    cluster.patch("services", "web", {"spec": {"selector": {"app": "nobody"}}}, "shop")
    (found,) = slices_of(cluster, "web")
    assert (found["endpoints"], found["ports"]) == (None, None)
    cluster.delete("services", "web", "shop")
    assert slices_of(cluster, "web") == []


def test_a_slice_that_somebody_deletes_comes_back(cluster: DemoCluster) -> None:
    (found,) = slices_of(cluster, "web")
    cluster.delete("endpointslices", found["metadata"]["name"], "shop")
    (again,) = slices_of(cluster, "web")
    assert again["endpoints"] == found["endpoints"]
    assert again["metadata"]["uid"] != found["metadata"]["uid"]


def test_more_than_a_hundred_endpoints_make_two_slices(cluster: DemoCluster) -> None:
    for index in range(100):
        cluster.create(pod(f"many-{index}"))
    assert [len(raw["endpoints"]) for raw in slices_of(cluster, "web")] in ([100, 3], [3, 100])


def test_a_service_of_the_longest_name_has_a_slice_and_pods_of_a_template_their_names(cluster: DemoCluster) -> None:
    longest = "a" * 63
    cluster.create(service(longest, selector={"app": "web"}, ports=[{"port": 80}]))
    (made,) = slices_of(cluster, longest)
    assert re.fullmatch("a{58}[a-z0-9]{5}", made["metadata"]["name"])
    named = pod("")
    named["metadata"] = {"generateName": f"{'b' * 62}-", "namespace": "shop"}
    assert re.fullmatch("b{58}[a-z0-9]{5}", cluster.create(named)["metadata"]["name"])


def test_a_host_name_counts_for_the_service_that_is_its_subdomain(cluster: DemoCluster) -> None:
    cluster.create(pod("named", hostname="h", subdomain="web"))
    cluster.create(pod("stray", hostname="h2", subdomain="elsewhere"))
    (found,) = slices_of(cluster, "web")
    assert {item.get("hostname") for item in found["endpoints"]} == {None, "h"}


def test_service_addresses(cluster: DemoCluster) -> None:
    port = [{"port": 80}]
    dual = cluster.create(service("dual", ports=port, ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"]))
    assert dual["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    assert ":" in dual["spec"]["clusterIP"]
    fixed = cluster.create(service("fixed", ports=port, clusterIP="10.96.7.7"))
    assert fixed["spec"]["clusterIPs"] == ["10.96.7.7"]
    for wanted, why in (("10.96.7.7", "already allocated"), ("10.0.0.1", "not in the valid range"), ("x", "valid IP")):
        with pytest.raises(StatusError, match=why) as refused:
            cluster.create(service("taken", ports=port, clusterIP=wanted))
        assert refused.value.code == 422
    with pytest.raises(StatusError, match="may not change once set"):
        cluster.patch("services", "fixed", {"spec": {"clusterIP": "10.96.7.8", "clusterIPs": None}}, "shop")
    cluster.delete("services", "fixed", "shop")
    cluster.create(service("again", ports=port, clusterIP="10.96.7.7"))


def test_a_service_may_gain_and_lose_its_second_family(cluster: DemoCluster) -> None:
    both = {"spec": {"ipFamilyPolicy": "PreferDualStack"}}
    first, second = cluster.patch("services", "web", both, "shop")["spec"]["clusterIPs"]
    assert (":" in first, ":" in second) == (False, True)
    one = {"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": [first]}}
    assert cluster.patch("services", "web", one, "shop")["spec"]["clusterIPs"] == [first]
    taker = service("taker", ports=[{"port": 80}], clusterIP=second, ipFamilies=["IPv6"])
    assert cluster.create(taker)["spec"]["clusterIPs"] == [second]


def test_node_ports_come_and_go_with_the_type(cluster: DemoCluster) -> None:
    made = cluster.create(service("open", type="NodePort", ports=[{"port": 80}]))
    assert made["spec"]["externalTrafficPolicy"] == "Cluster"
    (port,) = made["spec"]["ports"]
    assert 30000 <= port["nodePort"] <= 32767
    plain = {"type": "ClusterIP", "externalTrafficPolicy": None}
    assert "nodePort" not in cluster.patch("services", "open", {"spec": plain}, "shop")["spec"]["ports"][0]
    again = cluster.patch("services", "open", {"spec": {"type": "LoadBalancer"}}, "shop")
    assert again["spec"]["ports"] == [port]
    assert again["status"] == {"loadBalancer": {}}


async def test_a_single_stack_cluster_has_no_ipv6() -> None:
    async with DemoCluster(traits=Traits(dual_stack=False)) as cluster:
        assert cluster.get("services", "dual", "payments")["spec"]["ipFamilies"] == ["IPv4"]
        assert cluster.get("servicecidrs", "kubernetes")["spec"]["cidrs"] == ["10.96.0.0/16"]
        with pytest.raises(StatusError, match="not configured"):
            cluster.create(service("six", ports=[{"port": 80}], ipFamilies=["IPv6"]))


@pytest.mark.parametrize(
    ("raw", "code", "why"),
    [
        (service("web", ports=[{"port": 80}]), 409, 'services "web" already exists'),
        (service("Web", ports=[{"port": 80}]), 422, "RFC 1123"),
        (service("a.b", ports=[{"port": 80}]), 422, "RFC 1123"),
        (service("x"), 422, "spec.ports: Required value"),
        (service("x", ports=[{"port": 0}]), 422, "between 1 and 65535"),
        (service("x", ports=[{"port": 1}, {"port": 2}]), 422, "name: Required value"),
        (service("x", ports="http"), 400, "spec.ports is no list"),
        (service("x", ports=[{"port": True}]), 400, r"spec.ports\[0\].port is no number"),
        (service("x", ports=[{"port": 1, "targetPort": 1.5}]), 400, "targetPort is no number or text"),
        (service("x", ports=[{"name": "http"}]), 422, r"spec.ports\[0\].port: Required value"),
        (service("x", type="Magic", ports=[{"port": 1}]), 422, "Unsupported value"),
        (service("x", type="ExternalName"), 422, "externalName: Required value"),
        ({**service("x", ports=[{"port": 1}]), "metadata": {"name": "x", "namespace": "no"}}, 404, '"no" not found'),
        (pod("web-1"), 409, "already exists"),
        ({**pod("x"), "spec": {}}, 422, "spec.containers: Required value"),
    ],
)
def test_what_the_api_refuses(cluster: DemoCluster, raw: Raw, code: int, why: str) -> None:
    version = cluster.version
    with pytest.raises(StatusError, match=why) as refused:
        cluster.create(raw)
    assert refused.value.code == code
    assert cluster.version == version


async def test_deleting_a_namespace_passes_through_terminating(
    cluster: DemoCluster, session: aiohttp.ClientSession
) -> None:
    async with session.delete("/api/v1/namespaces/shop", json={"kind": "DeleteOptions", "apiVersion": "v1"}) as answer:
        assert (await answer.json())["status"] == {"phase": "Terminating"}
    with pytest.raises(StatusError, match="because it is being terminated"):
        cluster.create(service("late", ports=[{"port": 80}]))
    for kind in ("pods", "services", "endpointslices"):
        assert cluster.objects(kind, "shop") == []
    with pytest.raises(StatusError, match="not found"):
        cluster.get("namespaces", "shop")
    async with session.delete("/api/v1/namespaces/kube-system") as answer:
        assert answer.status == 403


async def test_replace_wants_the_version_it_was_read_at(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    path = "/api/v1/namespaces/shop/services/web"
    async with session.get(path) as response:
        read = await response.json()
    cluster.patch("services", "web", {"metadata": {"labels": {"a": "b"}}}, "shop")
    async with session.put(path, json=read) as response:
        assert (response.status, (await response.json())["reason"]) == (409, "Conflict")
    read["metadata"].pop("resourceVersion")
    async with session.put(path, json=read) as response:
        assert (response.status, (await response.json())["spec"]) == (200, read["spec"])


@pytest.mark.parametrize(
    ("method", "path", "media", "status"),
    [
        ("POST", "/api/v1/namespaces", "application/vnd.kubernetes.protobuf", 415),
        ("PATCH", "/api/v1/namespaces/shop", "application/json-patch+json", 415),
        ("POST", "/api/v1/namespaces", "application/json", 400),
        ("POST", "/api/v1/namespaces/shop", "application/json", 405),
        ("OPTIONS", "/api/v1/namespaces", "application/json", 405),
        ("POST", "/api/v1/pods/x/y/z", "application/json", 404),
    ],
)
async def test_requests_that_make_no_sense_get_a_status(
    session: aiohttp.ClientSession, method: str, path: str, media: str, status: int
) -> None:
    async with session.request(method, path, data=b"k8s\0{", headers={"Content-Type": media}) as response:
        body = await response.json()
        assert (response.status, body["kind"], body["code"]) == (status, "Status", status)


async def next_event(response: aiohttp.ClientResponse) -> Raw:
    event: Raw = json.loads(await response.content.readline())
    return event


async def test_a_watch_with_selectors_sees_objects_come_and_go(
    cluster: DemoCluster, session: aiohttp.ClientSession
) -> None:
    path = f"/api/v1/namespaces/shop/pods?watch=1&labelSelector=app%3Dweb&resourceVersion={cluster.version}"
    async with session.get(path) as response:
        cluster.patch("pods", "web-1", {"metadata": {"labels": {"app": "other"}}}, "shop")
        cluster.patch("pods", "web-1", {"metadata": {"labels": {"more": "x"}}}, "shop")
        cluster.patch("pods", "web-1", {"metadata": {"labels": {"app": "web"}}}, "shop")
        events = [await next_event(response) for _ in range(2)]
    assert [event["type"] for event in events] == ["DELETED", "ADDED"]


async def test_a_watch_without_a_version_begins_with_what_there_is(session: aiohttp.ClientSession) -> None:
    async with session.get("/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Dshop") as response:
        event = await next_event(response)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "shop")


async def test_streaming_lists_end_with_a_marked_bookmark() -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with (
        DemoCluster(traits=Traits(streaming_lists=True)) as cluster,
        aiohttp.ClientSession(base_url=cluster.server) as session,
        session.get(f"/api/v1/namespaces?{query}") as response,
    ):
        events = [await next_event(response) for _ in range(len(cluster.objects("namespaces")) + 1)]
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}})
        assert (await next_event(response))["object"]["metadata"]["name"] == "late"
    assert {event["type"] for event in events[:-1]} == {"ADDED"}
    assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_expired_history_is_a_410_for_watches_and_for_chunked_lists(
    cluster: DemoCluster, session: aiohttp.ClientSession
) -> None:
    async with session.get("/api/v1/namespaces?limit=1") as response:
        chunk = (await response.json())["metadata"]
    async with session.get(f"/api/v1/namespaces?watch=1&resourceVersion={cluster.version}") as watch:
        cluster.expire_history()
        with pytest.raises(aiohttp.ClientError):
            await watch.content.readline()
    async with session.get(f"/api/v1/namespaces?watch=1&resourceVersion={chunk['resourceVersion']}") as watch:
        event = await next_event(watch)
        assert (watch.status, event["type"], event["object"]["code"]) == (200, "ERROR", 410)
    async with session.get(f"/api/v1/namespaces?limit=1&continue={chunk['continue']}") as response:
        body = await response.json()
        assert (response.status, body["reason"]) == (410, "Expired")
    async with session.get(f"/api/v1/namespaces?continue={body['metadata']['continue']}") as response:
        assert len((await response.json())["items"]) == len(cluster.objects("namespaces")) - 1


async def test_a_watch_that_falls_behind_the_kept_history_ends_with_410() -> None:
    async with (
        DemoCluster(traits=Traits(history=3)) as cluster,
        aiohttp.ClientSession(base_url=cluster.server) as session,
    ):
        version = cluster.version
        for index in range(4):
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{index}"}})
        async with session.get(f"/api/v1/namespaces?watch=1&resourceVersion={version}") as watch:
            assert (await next_event(watch))["object"]["code"] == 410
        async with session.get(f"/api/v1/namespaces?watch=1&resourceVersion={version + 1}") as watch:
            assert (await next_event(watch))["object"]["metadata"]["name"] == "n1"


async def test_a_list_from_the_future_is_refused(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    async with session.get(f"/api/v1/services?resourceVersion={cluster.version + 1}") as response:
        assert (response.status, (await response.json())["reason"]) == (504, "Timeout")


async def test_refused_and_back_again_on_the_same_port(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    server = cluster.server
    await cluster.refuse()
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.get("/version")
    await cluster.listen()
    assert cluster.server == server
    async with session.get("/version") as response:
        assert response.status == 200


async def test_failing_on_demand(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    cluster.faults.failing = 503
    async with session.get("/readyz") as response:
        assert (response.status, (await response.json())["kind"]) == (503, "Status")
    cluster.faults.failing = 0
    async with session.get("/readyz") as response:
        assert await response.text() == "ok"


async def test_frozen_streams_are_silent_and_go_on_when_thawed(
    cluster: DemoCluster, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"/api/v1/namespaces?watch=1&resourceVersion={cluster.version}") as watch:
        cluster.faults.freeze()
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}})
        waiting = asyncio.create_task(next_event(watch))
        with pytest.raises(TimeoutError):
            await session.get("/version", timeout=aiohttp.ClientTimeout(total=0.2))
        assert not waiting.done()
        cluster.faults.thaw()
        assert (await waiting)["object"]["metadata"]["name"] == "late"


async def test_a_taken_port_is_an_error_with_a_fix(cluster: DemoCluster) -> None:
    port = int(cluster.server.rpartition(":")[2])
    with pytest.raises(HostError, match="take another port"):
        async with DemoCluster(port=port):
            pass
