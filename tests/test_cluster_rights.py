"""What we may do, what we need, and what happens where the two differ: against the demo cluster's rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_sides import demo_side, followed_as, soon
from cluster_sides import truth as truth_of
from commands import resolverd
from dns_cluster import CONFIG, ask, index_of
from fakes import eventually
from test_dns_claims import shown
from watch_soak import known, read_here, service, truth

from resolverd import followed
from resolverd.cli.rbac import documents
from resolverd.cluster import backoff, facts, follow, kubeconfig, scoping, watch
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, ApiError
from resolverd.cluster.follow import Follower
from resolverd.cluster.rights import Scope, find_scope, named_scope
from resolverd.cluster.scoping import Covered
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User
from resolverd.dns.claims import claim_of
from resolverd.names import labels
from resolverd.settings import ClusterSettings, DnsSettings, Settings, TunnelSettings

FOLLOW = frozenset({"list", "watch"})
BOTH = frozenset({"services", "endpointslices"})


def user(*rules: tuple[str, str, str]) -> User:
    """(verbs, resources, namespaces), each separated by blanks."""
    return User("ada", tuple(Rule(*(frozenset(part.split()) for part in rule)) for rule in rules))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(kubeconfig, "load", read_here)


@asynccontextmanager
async def cluster_of(one: User) -> AsyncIterator[tuple[DemoCluster, ApiClient]]:
    async with (
        DemoCluster(traits=Traits(tokens={"t": one})) as cluster,
        ApiClient(Access(cluster.server, token="Bearer t")) as client,
    ):
        yield cluster, client


@asynccontextmanager
async def followed_by(one: User, folder: Path, **settings: Any) -> AsyncIterator[tuple[DemoCluster, Follower]]:
    async with cluster_of(one) as (cluster, _):
        (folder / "kubeconfig").write_text(cluster.kubeconfig(token="t"))
        cluster_settings = ClusterSettings(kubeconfig=str(folder / "kubeconfig"), **settings)
        follower = Follower(cluster_settings, None, folder, lambda *_: None, lambda _: None)
        task = asyncio.create_task(follower.run())
        try:
            await eventually(lambda: follower.synced.is_set() or task.done())
            yield cluster, follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


ALL = ("list watch", "namespaces services endpointslices", "*")


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (user(ALL), Scope()),
        (
            user(("list watch", "services endpointslices", "*")),
            Scope(None, False, False, ("list, watch namespaces in the whole cluster",)),
        ),
        (
            user(("list", "namespaces", "*"), ("list watch", "services endpointslices", "rs payments kube-system")),
            Scope(
                ("kube-system", "payments", "rs"), False, True,
                (
                    "watch namespaces in the whole cluster",
                    "list, watch services in the whole cluster",
                    "list, watch endpointslices in the whole cluster",
                ),
            ),
        ),
        (user(("list", "services endpointslices", "shop")), Scope((), False, False)),
    ],
)  # fmt: skip
async def test_the_most_that_may_be_followed_is_found(who: User, expected: Scope) -> None:
    async with cluster_of(who) as (_, client):
        found = await find_scope(client, "shop")
        namespaces = None if found.namespaces is None else tuple(sorted(found.namespaces))
        assert (namespaces, found.lists_namespaces) == (expected.namespaces, expected.lists_namespaces)
        if expected.missing:
            assert found.missing == expected.missing


async def test_where_rules_cannot_be_listed_each_verb_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An authoriser that is a webhook says ``incomplete``."""
    from resolverd.demo import server

    def incomplete(*_: object) -> dict[str, Any]:
        return {"status": {"resourceRules": [], "nonResourceRules": [], "incomplete": True}}

    monkeypatch.setattr(server, "review_rules", incomplete)
    async with cluster_of(user(("list watch", "services endpointslices", "shop"))) as (_, client):
        assert (await find_scope(client, "shop")).namespaces == ("shop",)


async def test_reviews_that_are_refused_are_an_error() -> None:
    async with DemoCluster(traits=Traits(tokens={})) as cluster, ApiClient(Access(cluster.server)) as client:
        with pytest.raises(ApiError, match="anonymous"):
            await find_scope(client, "shop")
        assert (await named_scope(client, ("shop",))).missing


async def test_without_any_right_everything_is_the_cluster_s_to_say(tmp_path: Path) -> None:
    async with followed_by(user(), tmp_path) as (_, follower):
        assert follower.synced.is_set()
        assert follower.scope.namespaces == ()
        check = next(check for check in followed.checks(follower) if check.id == "rights")
        for resource in ("namespaces", "services", "endpointslices"):
            assert f"list, watch {resource} in the whole cluster" in check.detail


async def test_namespaces_are_known_by_their_services_where_they_may_not_be_listed(tmp_path: Path) -> None:
    async with followed_by(user(("list watch", "services endpointslices", "*")), tmp_path) as (cluster, follower):
        await eventually(lambda: known(follower.snapshot)["services"] == truth(cluster)["services"])
        spaces = {raw["metadata"]["namespace"] for raw in cluster.objects("Service")}
        assert set(follower.snapshot.namespaces) == spaces


EVERYTHING = list(documents(Settings(tunnel=TunnelSettings(enabled=False))))


async def test_an_api_server_that_starts_and_knows_no_roles_yet_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses everybody for a moment, and its reviews say so, too."""
    async with demo_side() as side:
        name, access = await side.user(EVERYTHING)
        async with followed_as(access, tmp_path, monkeypatch) as (follower, _):
            before = known(follower.snapshot)
            token = access.token.removeprefix("Bearer ")
            with pytest.MonkeyPatch.context() as starting:
                starting.setitem(side.tokens, token, User(name))
                side.cluster.faults.drop_streams()
                await eventually(lambda: any("cannot" in error.why for error in follower.trouble.values()))
                await asyncio.sleep(0.3)
                assert known(follower.snapshot) == before
            side.cluster.create(service("fresh"))
            await soon(follower, side, 5)
            assert (follower.scope.namespaces, follower.trouble) == (None, {})


async def test_rights_that_are_taken_or_given_while_it_runs_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "DOUBT", 0.2)
    monkeypatch.setattr(scoping, "PAUSE", 0.3)
    monkeypatch.setattr(follow, "AWAY", 0.0)
    async with demo_side() as side:
        name, access = await side.user(EVERYTHING)
        async with followed_as(access, tmp_path, monkeypatch) as (follower, _):
            token = access.token.removeprefix("Bearer ")
            with pytest.MonkeyPatch.context() as without:
                without.setitem(side.tokens, token, User(name))
                side.cluster.faults.drop_streams()
                await eventually(lambda: follower.scope.namespaces == () and not follower.snapshot.services)
                assert not follower.is_away, "it answers, although it gives nothing"
            await eventually(lambda: follower.scope.namespaces is None)
            await soon(follower, side)


async def test_rights_for_what_is_known_otherwise_are_noticed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespaces are known by their services, and ranges by addresses, until both may be read."""
    monkeypatch.setattr(scoping, "PAUSE", 0.3)
    monkeypatch.setattr(facts, "REFUSED", (0.1, 0.2))
    async with demo_side() as side:
        side.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "empty"}})
        name, access = await side.user(EVERYTHING)
        token = access.token.removeprefix("Bearer ")
        most = Rule(FOLLOW, BOTH | {"pods"})
        given, side.tokens[token] = side.tokens[token], User(name, (most,))
        async with followed_as(access, tmp_path, monkeypatch) as (follower, _):
            await eventually(lambda: follower.facts.is_refused and not follower.scope.lists_namespaces)
            await eventually(lambda: "10.96.0.0/24" in map(str, follower.facts.ranges))
            assert ("shop" in follower.snapshot.namespaces, "empty" in follower.snapshot.namespaces) == (True, False)
            side.tokens[token] = given
            await eventually(lambda: follower.scope.lists_namespaces and "empty" in follower.snapshot.namespaces)
            await soon(follower, side)
            everybody = Rule(frozenset({"get", "list"}), frozenset({"nodes", "servicecidrs", "configmaps"}))
            side.tokens[token] = replace(given, rules=(*given.rules, everybody))
            await eventually(lambda: not follower.facts.is_refused)
            assert "10.96.0.0/16" in map(str, follower.facts.told_ranges)
            await eventually(lambda: "10.96.0.0/24" not in map(str, follower.facts.ranges))
            requests = follower.load.requests
            await asyncio.sleep(0.6)
            assert follower.load.requests == requests


async def test_names_that_may_be_followed_from_now_on_are_denied_only_when_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoping, "PAUSE", 0.3)
    monkeypatch.setattr(follow, "PACE", 0.0)
    covered: list[tuple[Covered, bool]] = []

    async with demo_side() as side:
        name, access = await side.user(EVERYTHING)
        token = access.token.removeprefix("Bearer ")
        given, side.tokens[token] = side.tokens[token], User(name)
        whole = await truth_of(side)
        async with followed_as(access, tmp_path, monkeypatch) as (follower, _):
            follower.on_change = lambda *_: covered.append((follower.covered, known(follower.snapshot) == whole))
            side.tokens[token] = given
            side.cluster.faults.mischief.crawling = 0.02
            await eventually(lambda: follower.covered is None)
        assert (frozenset(), False) in covered
        assert {is_whole for names, is_whole in covered if names is None} == {True}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.shop.svc.cluster.local", "ours"),
        ("web.rs.svc.cluster.local", "cluster"),
        ("rs.svc.cluster.local", "cluster"),
        ("1-2-3-4.rs.pod.cluster.local", "cluster"),
        ("svc.cluster.local", "ours"),
        ("cluster.local", "ours"),
        ("5.0.96.10.in-addr.arpa", "ours then cluster"),
        ("www.example.com", "upstream"),
    ],
)
def test_names_of_namespaces_that_are_not_followed_are_the_cluster_s(name: str, expected: str) -> None:
    assert shown(claim_of(labels(name), replace(CONFIG, watched=frozenset({"shop"})))) == expected


def test_what_is_not_followed_is_never_denied() -> None:
    """Without the tunnel nobody can ask the cluster's DNS service: then the name is not known to be missing."""
    answer = ask("absent.rs.svc.cluster.local", "A", index_of(), replace(CONFIG, watched=frozenset()))
    assert answer.rcode.name == "SERVFAIL"


# What `resolverd rbac` prints; that it is enough, and no more: test_cluster_contract.py.


def test_verified_pod_records_need_pods() -> None:
    (role,) = documents(Settings(dns=DnsSettings(pod_records="verified")))
    assert {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]} in role["rules"]


def test_where_nothing_is_carried_no_port_forward_is_needed() -> None:
    tunnel = TunnelSettings(transport="direct")
    (whole,) = documents(Settings(tunnel=tunnel))
    named = list(documents(Settings(tunnel=tunnel, cluster=ClusterSettings(namespaces=("shop",)))))
    assert [role["metadata"].get("namespace") for role in named] == ["shop", "kube-system"]
    for role in (whole, *named):
        resources = {resource for rule in role["rules"] for resource in rule["resources"]}
        assert "services" in resources
        assert "pods/portforward" not in resources


async def test_rbac_prints_yaml_that_kubectl_takes() -> None:
    printed = await resolverd("rbac", "--namespace", "shop", "--no-tunnel")
    assert printed.code == 0
    (role,) = yaml.safe_load_all(printed.out)
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "shop")
    assert [rule["resources"] for rule in role["rules"]] == [["services"], ["endpointslices"]]
