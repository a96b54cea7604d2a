"""Who may do what, by bearer token, and what the reviews say about it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, Rule, User

READER = User(
    "reader",
    (
        Rule(frozenset({"list", "watch"}), frozenset({"services"}), frozenset({"shop"})),
        Rule(frozenset({"get"}), frozenset({"namespaces"}), frozenset({"shop"})),
        Rule(frozenset({"get", "create"}), frozenset({"pods/portforward"}), frozenset({"shop"})),
    ),
)
SHOP = "/api/v1/namespaces/shop"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        DemoCluster(traits=Traits(tokens={"admin": ADMIN, "reader": READER})) as cluster,
        aiohttp.ClientSession(base_url=cluster.server) as session,
    ):
        yield session


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{SHOP}/services", 200),
        ("GET", "/api/v1/services", 403),
        ("GET", "/api/v1/namespaces/payments/services", 403),
        ("GET", f"{SHOP}/services/web", 403),
        ("GET", f"{SHOP}/services?watch=1&timeoutSeconds=1", 200),
        ("GET", SHOP, 200),
        ("GET", "/api/v1/namespaces", 403),
        ("GET", f"{SHOP}/pods/web-1/portforward?ports=8080", 400),
        ("GET", "/api/v1/namespaces/rs/pods/web-1/portforward?ports=8080", 403),
        ("DELETE", f"{SHOP}/services/web", 403),
        ("GET", "/apis", 200),
    ],
)
async def test_rules_hold_where_they_say(session: aiohttp.ClientSession, method: str, path: str, status: int) -> None:
    async with session.request(method, path, headers={"Authorization": "Bearer reader"}) as response:
        assert response.status == status


@pytest.mark.parametrize(("path", "status"), [("/version", 200), ("/readyz", 200), ("/api", 403), (SHOP, 403)])
async def test_strangers_see_health_and_version_only(session: aiohttp.ClientSession, path: str, status: int) -> None:
    async with session.get(path) as response:
        assert response.status == status


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"verb": "list", "resource": "services", "namespace": "shop"}, True),
        ({"verb": "list", "resource": "services"}, False),
        ({"verb": "create", "resource": "pods", "subresource": "portforward", "namespace": "shop"}, True),
        ({"verb": "create", "resource": "pods", "namespace": "shop"}, False),
        ({"verb": "list", "resource": "endpointslices", "group": "discovery.k8s.io", "namespace": "shop"}, False),
        ({"verb": "list", "resource": "secrets", "namespace": "shop"}, False),
    ],
)
async def test_reviews_agree_with_the_rules(
    session: aiohttp.ClientSession, attributes: dict[str, str], allowed: bool
) -> None:
    body = {"spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with session.post(path, json=body, headers={"Authorization": "Bearer reader"}) as response:
        assert (await response.json())["status"] == {"allowed": allowed}


async def test_a_rules_review_lists_what_holds_in_the_namespace(session: aiohttp.ClientSession) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    for namespace, expected in (("shop", 4), ("payments", 1)):
        body = {"spec": {"namespace": namespace}}
        async with session.post(path, json=body, headers={"Authorization": "Bearer reader"}) as response:
            assert len((await response.json())["status"]["resourceRules"]) == expected
    async with session.post(path, json={"spec": []}, headers={"Authorization": "Bearer reader"}) as response:
        assert response.status == 400
