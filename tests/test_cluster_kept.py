"""What is known outlives the daemon and the API server's absence, and is never trusted more than the API is."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import logging
import os
import pickle
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st
from watch_soak import known, read_here, service, truth

from resolverd import followed
from resolverd.cluster import backoff, follow, keeping, kubeconfig, objects, scoping
from resolverd.cluster.access import Access
from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.follow import Follower
from resolverd.cluster.kept import LONGEST, REST, TURN, Kept
from resolverd.cluster.objects import EndpointPort, EndpointSlice, Namespace, Service, ServicePort
from resolverd.cluster.scoping import Covered
from resolverd.cluster.snapshot import Change, Kind, Snapshot, fold
from resolverd.cluster.written import written
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User
from resolverd.settings import ClusterSettings

WEB = Service("shop", "web", "ClusterIP", ("10.96.0.7",), False, "", (ServicePort("http", "TCP", 80, "named"),))
PODS = (Endpoint(("10.244.0.1",), "h", True, False, "web-1"), Endpoint(("fd00::1",), "", False, True, ""))
SLICE = EndpointSlice(
    "shop", "web-1", "web", Endpoints(PODS), (EndpointPort("http", "TCP", 8080), EndpointPort("", "UDP", None))
)
CHANGES = (
    Change(Kind.NAMESPACE, ("", "shop"), Namespace("shop")),
    Change(Kind.SERVICE, WEB.key, WEB),
    Change(Kind.SLICE, SLICE.key, SLICE),
)
SNAPSHOT, _ = fold(Snapshot(), CHANGES, synced=True, serial=1)
NOW = 1_800_000_000.0


def kept(folder: Path, server: str = "https://api:6443", ca: str = "ca") -> Kept:
    return Kept.of(folder, Access(server, ca_pem=ca, token="Bearer sesame"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kept(tmp_path).write(SNAPSHOT, NOW)
    assert kept(tmp_path).read(NOW + 60) == (CHANGES, NOW, None)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"sesame" not in gzip.decompress(file.read_bytes())


@pytest.mark.parametrize("covered", [None, frozenset(), frozenset({"shop", "rs"})])
def test_it_is_kept_of_which_namespaces_it_is_everything(tmp_path: Path, covered: Covered) -> None:
    kept(tmp_path).write(SNAPSHOT, NOW, covered)
    assert kept(tmp_path).read(NOW) == (CHANGES, NOW, covered)


NAMES = st.text(min_size=1, max_size=8)
TEXTS = st.text(max_size=8)
PORTS = st.lists(st.builds(ServicePort, TEXTS, TEXTS, st.integers(1, 65535), st.integers(1, 65535)), max_size=2)
SERVICES = st.one_of(
    st.builds(
        Service, NAMES, NAMES, st.just("ClusterIP"),
        st.lists(NAMES.filter(lambda ip: ip != "None"), max_size=2).map(tuple),
        st.just(False), st.just(""), PORTS.map(tuple), TEXTS, st.booleans(), st.integers(1, 86400),
        st.lists(NAMES, max_size=2).map(tuple),
    ),
    st.builds(Service, NAMES, NAMES, st.just("ClusterIP"), st.just(()), st.just(True), st.just(""), PORTS.map(tuple)),
    st.builds(Service, NAMES, NAMES, st.just("ExternalName"), st.just(()), st.just(False), TEXTS, PORTS.map(tuple)),
)  # fmt: skip
ENDPOINTS = st.builds(
    Endpoint, st.lists(TEXTS, max_size=2).map(tuple), TEXTS, st.booleans(), st.booleans(), TEXTS, st.booleans()
)
SLICE_PORTS = st.builds(EndpointPort, TEXTS, TEXTS, st.none() | st.integers(0, 65535))
SLICES = st.builds(
    EndpointSlice, NAMES, NAMES, TEXTS, st.lists(ENDPOINTS, max_size=3).map(Endpoints),
    st.lists(SLICE_PORTS, max_size=2).map(tuple),
)  # fmt: skip


@given(SERVICES, SLICES)
def test_an_object_is_written_as_the_api_would_give_it(one: Service, other: EndpointSlice) -> None:
    assert objects.parse_service(json.loads(json.dumps(written(one)))) == one
    assert objects.parse_endpoint_slice(json.loads(json.dumps(written(other)))) == other
    assert pickle.loads(pickle.dumps((one, other))) == (one, other)  # noqa: S301  # ours


def test_a_large_one_is_written_with_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written in a thread, while the event loop, in the same interpreter, passes changes on."""
    rests: list[float] = []
    monkeypatch.setattr("resolverd.cluster.kept.time.sleep", rests.append)
    many = [Change(Kind.NAMESPACE, ("", f"n{number}"), Namespace(f"n{number}")) for number in range(20 * TURN)]
    kept(tmp_path).write(fold(Snapshot(), many, synced=True, serial=1)[0], NOW)
    assert rests == [REST] * 20


def test_another_cluster_or_another_authority_has_another_file(tmp_path: Path) -> None:
    kept(tmp_path).write(SNAPSHOT, NOW)
    assert kept(tmp_path, server="https://other:6443").read(NOW) is None
    assert kept(tmp_path, ca="other").read(NOW) is None
    kept(tmp_path, ca="other").write(SNAPSHOT, NOW)
    assert len(list(tmp_path.iterdir())) == 1, "only the last cluster's"


@pytest.mark.parametrize("age", [LONGEST + 1, -3600.0])
def test_what_is_too_old_or_of_the_future_is_not_served(tmp_path: Path, age: float) -> None:
    kept(tmp_path).write(SNAPSHOT, NOW)
    assert kept(tmp_path).read(NOW + age) is None


def lines(*values: Any) -> bytes:
    return gzip.compress(b"".join(json.dumps(value).encode() + b"\n" for value in values))


HEAD = {"format": 1, "identity": "", "time": NOW}
OBJECT = ["namespaces", {"metadata": {"name": "shop"}}]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x1f\x8b", b"cbuiltins\nprint\n", lines(), lines(1), lines({**HEAD, "format": 2}), lines(HEAD, OBJECT),
        lines(HEAD, OBJECT, {"end": 2}), lines(HEAD, ["secrets", {}], {"end": 1}), lines(HEAD, 7, {"end": 0}),
        lines(HEAD, ["services", {"metadata": {"name": "x"}, "spec": []}], {"end": 1}),
        lines({**HEAD, "time": None}, {"end": 0}), lines({**HEAD, "time": float("nan")}, {"end": 0}),
        lines({**HEAD, "time": 10**400}, {"end": 0}), lines({**HEAD, "covered": 7}, {"end": 0}),
        lines({**HEAD, "covered": [7]}, {"end": 0}),
        lines(HEAD, OBJECT, {"end": 1})[:-9],
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_ignored_with_a_line(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    one = kept(tmp_path)
    content = content if content[:2] != b"\x1f\x8b" else _with_identity(content, one.identity)
    one.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert one.read(NOW) is None
    assert "is not used" in caplog.text


def test_whichever_octet_is_damaged_the_start_goes_on(tmp_path: Path) -> None:
    one = kept(tmp_path)
    one.write(SNAPSHOT, NOW)
    whole = one.path.read_bytes()
    for place in range(len(whole)):
        one.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert one.read(NOW) in (None, (CHANGES, NOW, None))


def _with_identity(content: bytes, identity: str) -> bytes:
    try:
        text = gzip.decompress(content)
    except EOFError:
        return content
    return gzip.compress(text.replace(b'"identity": ""', f'"identity": "{identity}"'.encode()))


def test_what_somebody_else_may_have_written_is_not_read(tmp_path: Path) -> None:
    one = kept(tmp_path)
    one.write(SNAPSHOT, NOW)
    one.path.chmod(0o620)
    assert one.read(NOW) is None
    one.path.chmod(0o600)
    assert one.read(NOW) is not None
    one.path.rename(tmp_path / "elsewhere")
    one.path.symlink_to(tmp_path / "elsewhere")
    assert one.read(NOW) is None


def test_a_full_disk_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path).write(SNAPSHOT, NOW)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept(tmp_path).write(Snapshot(), NOW + 1)
    assert kept(tmp_path).read(NOW) == (CHANGES, NOW, None)
    assert len(list(tmp_path.iterdir())) == 1


# A follower with it.


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(keeping, "FIRST", 0.0)
    monkeypatch.setattr(keeping, "PAUSE", 0.05)
    monkeypatch.setattr(follow, "AWAY", 0.05)
    monkeypatch.setattr(kubeconfig, "load", read_here)


@dataclasses.dataclass
class Clock:
    skew: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.skew


@asynccontextmanager
async def follower(cluster: DemoCluster, folder: Path, token: str = "", **settings: Any) -> AsyncIterator[Follower]:
    (folder / "kubeconfig").write_text(cluster.kubeconfig(token=token))
    given_settings = ClusterSettings(kubeconfig=str(folder / "kubeconfig"), **settings)
    one = Follower(given_settings, None, folder, lambda *_: None, lambda _: None, Clock())
    task = asyncio.create_task(one.run())
    try:
        await eventually(lambda: one.snapshot.synced or task.done())
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def leave(cluster: DemoCluster, folder: Path, token: str = "") -> None:
    """Have a follower leave a file of what there is, and may be followed."""
    async with follower(cluster, folder, token) as one:
        await eventually(lambda: bool(list(folder.glob("snapshot-*.gz"))))
        await eventually(lambda: bool(token) or known(one.snapshot) == truth(cluster))


async def test_a_restart_while_the_cluster_is_away_serves_what_was_known(tmp_path: Path) -> None:
    async with DemoCluster() as cluster:
        await leave(cluster, tmp_path)
        before = truth(cluster)
        await cluster.refuse()
        began = time.time()
        async with follower(cluster, tmp_path) as one:
            assert known(one.snapshot) == before
            assert one.is_away
            (check,) = followed.checks(one)
            assert not check.ok
            assert "answers are as of" in check.detail
            await eventually(lambda: bool(one.trouble))
            assert one.heard < began
            cluster.delete("Service", "web", "shop")
            cluster.create(service("fresh"))
            cluster.delete("Namespace", "rs")
            await cluster.listen()
            await eventually(lambda: known(one.snapshot) == truth(cluster))
            await eventually(lambda: not one.is_away)
            (check,) = followed.checks(one)
            assert check.ok
            await eventually(lambda: one.facts.knows_domain and bool(one.facts.told_ranges))


async def test_ten_minutes_away_are_shown_and_every_name_is_there(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, follower(cluster, tmp_path) as one:
        await one.synced.wait()
        before = known(one.snapshot)
        await cluster.refuse()
        await eventually(lambda: one.is_away)
        assert isinstance(one.clock, Clock)
        one.clock.skew = 600.0
        (check,) = followed.checks(one)
        assert "10 min ago" in check.detail
        assert followed.part(one, one.settings, "")["age"] >= 600
        assert known(one.snapshot) == before
        await cluster.listen()
        await eventually(lambda: not one.is_away)


async def test_fewer_namespaces_than_before_are_all_that_is_served(tmp_path: Path) -> None:
    async with DemoCluster() as cluster:
        await leave(cluster, tmp_path)
        async with follower(cluster, tmp_path, namespaces=("shop",)) as one:
            await one.synced.wait()
            await eventually(lambda: set(one.snapshot.namespaces) == {"shop"})
            assert {key[0] for key in one.snapshot.services} <= {"shop", "kube-system"}


async def test_what_was_not_followed_is_not_denied_after_a_restart(tmp_path: Path) -> None:
    rule = Rule(frozenset({"list", "watch"}), frozenset({"services", "endpointslices"}), frozenset({"shop"}))
    async with DemoCluster(traits=Traits(tokens={"t": User("ada", (rule,))})) as cluster:
        await leave(cluster, tmp_path, "t")
        await cluster.refuse()
        async with follower(cluster, tmp_path, "t") as one:
            assert (one.is_away, one.covered) == (True, frozenset({"shop"}))


async def test_what_nobody_said_while_it_was_away_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the cluster's DNS service may be followed besides the namespaces that are named."""
    monkeypatch.setattr(scoping, "PAUSE", 0.05)
    async with DemoCluster() as cluster:
        await leave(cluster, tmp_path)
        await cluster.refuse()
        async with follower(cluster, tmp_path, namespaces=("shop",)) as one:
            await eventually(lambda: one.scope.namespaces == ("shop",))
            assert not one.scope.follows_dns
            await cluster.listen()
            await eventually(lambda: one.scope.follows_dns and not one.is_away)
            await eventually(lambda: ("kube-system", "kube-dns") in one.snapshot.services)


async def test_a_clock_that_is_set_back_does_not_set_the_serial_back(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, follower(cluster, tmp_path) as one:
        serial = one.snapshot.serial
        assert isinstance(one.clock, Clock)
        one.clock.skew = -86400.0
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in one.snapshot.services)
        assert one.snapshot.serial >= serial
