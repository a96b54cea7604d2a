"""``--backend override`` as a user of a container has it: the daemon, real name servers, dig, curl, getent."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from commands import Running, resolverd, running, shell
from fakes import eventually
from lan_double import NAMESERVERS, RESOLV_CONF, TEXT, hidden, lan_host, rules_of_others

from resolverd.demo.cluster import DemoCluster
from resolverd.dns import client
from resolverd_platform.host_facts import parse_resolv_conf

pytestmark = pytest.mark.staged

WEB = "web.shop.svc.cluster.local"
QUESTIONS = 1000
DUMP = (
    "ip -brief link; ip -4 route; ip -6 route; ip rule; nft list ruleset; ls -lA --time-style=+ /etc; cat /etc/resolv*"
)


@dataclass
class Container:
    """A host without systemd-resolved, and a daemon on it."""

    cluster: DemoCluster
    run: Running
    state: Path

    def dns_process(self) -> int:
        pid = self.run.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        (found,) = [child for child in children if b"dns.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]
        return int(found)

    async def healthy(self) -> dict[str, dict[str, object]]:
        """Its status, once it is healthy."""
        async with asyncio.timeout(30):
            while (found := await resolverd("status", "--state-dir", str(self.state), "-o", "json")).code != 0:
                assert self.run.process.returncode is None, self.run.log.read_text()
                await asyncio.sleep(0.05)
        document: dict[str, dict[str, object]] = json.loads(found.out)
        return document


@pytest.fixture(scope="module", autouse=True)
def lan() -> Iterator[None]:
    with lan_host():
        yield


@pytest.fixture
def others() -> Iterator[Callable[[], str]]:
    """Other programs' rules; what shows them."""
    with rules_of_others() as rules:
        yield rules


@pytest.fixture
def has_nft() -> bool:
    return True


@pytest.fixture
async def container(tmp_path: Path, has_nft: bool) -> AsyncIterator[Container]:
    before, state = (await shell(DUMP)).out, tmp_path / "state"
    (tmp_path / "config.yaml").write_text("dns: {allow-collisions: [shop]}\n")
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        arguments = ["--kubeconfig", str(tmp_path / "kubeconfig"), "--config", str(tmp_path / "config.yaml")]
        arguments += ["--state-dir", str(state), "--no-tunnel"]
        async with AsyncExitStack() as stack:
            with nullcontext() if has_nft else hidden("nft"):
                made = Container(cluster, await stack.enter_async_context(running(tmp_path, "run", *arguments)), state)
                await made.healthy()
            yield made
        await resolverd("down", "--state-dir", str(state))
    assert (await shell(DUMP)).out == before
    assert not state.exists()


@dataclass(frozen=True)
class Question:
    server: str
    name: str
    kind: str
    tcp: bool

    def ask(self) -> tuple[str, list[str]]:
        """The response code and the data, sorted; or what went wrong."""
        try:
            answered = client.query(self.server, 53, self.name, self.kind, tcp=self.tcp)
        except Exception as error:  # noqa: BLE001 - compared
            return str(error), []
        return answered.rcode, sorted(answered.short())


KINDS = ("A", "AAAA", "MX", "TXT", "SRV", "HTTPS", "PTR")


def questions() -> list[Question]:
    """Of public names."""
    chosen = random.Random(53)
    names = ["www.public.example", "long.public.example", "absent.example", "a-b.c.public.example", "example"]
    names += ["nowhere.rs", "_sip._tcp.public.example"]
    found = []
    for number in range(QUESTIONS):
        kind = chosen.choice(KINDS)
        name = chosen.choice(["198.51.100.7", "198.51.100.8"]) if kind == "PTR" else chosen.choice(names)
        if kind != "PTR" and number % 2:
            name = f"n{number}.{name}"  # one that no cache knows
        found.append(Question(chosen.choice(NAMESERVERS), name, kind, chosen.random() < 0.3))
    return found


def own_questions(cluster: DemoCluster) -> dict[Question, list[str]]:
    """Of the cluster's names, each of every name server, by UDP and TCP, for every type; the data of the answers."""
    address = cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    data = {("A", WEB): [address], ("PTR", address): [f"{WEB}."], ("SRV", WEB): [f"0 100 80 {WEB}."]}
    asked = [(kind, address if kind == "PTR" else WEB) for kind in KINDS]
    return {
        Question(server, name, kind, tcp): data.get((kind, name), [])
        for server in NAMESERVERS for tcp in (False, True) for kind, name in asked
    }  # fmt: skip


Said = tuple[str, list[str]]


def ask_all(asked: list[Question]) -> list[Said]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(Question.ask, asked))


@pytest.fixture(scope="module")
def direct(lan: None) -> list[Said]:
    """What the name servers say while nobody is in between."""
    said = ask_all(questions())
    assert {rcode for rcode, _ in said} == {"NOERROR", "NXDOMAIN"}
    return said


def of_the_file(questions: list[Question]) -> list[Question]:
    """The same questions of whom programs ask by /etc/resolv.conf."""
    (server,) = [str(address) for address in parse_resolv_conf(RESOLV_CONF.read_text())[1]]
    return [replace(question, server=server) for question in questions]


async def answered_as_without_us(direct: list[Said], container: Container) -> None:
    own = own_questions(container.cluster)
    asked = [*questions(), *own]
    if not (await shell("nft list table inet resolverd")).out:
        asked = of_the_file(asked)
    mixed = random.Random(54).sample(range(len(asked)), len(asked))
    said = await asyncio.to_thread(ask_all, [asked[place] for place in mixed])
    answered = dict(zip(mixed, said, strict=True))
    expected = [*direct, *(("NOERROR", data) for data in own.values())]
    wrong = [(asked[place], expected[place], answered[place]) for place in mixed if answered[place] != expected[place]]
    assert not wrong


async def test_a_thousand_questions_are_answered_as_without_us_and_kill_9_leaves_nothing(
    direct: list[Said], others: Callable[[], str], container: Container
) -> None:
    rules = others()
    host = (await container.healthy())["host"]
    assert host["backend"] == "override"
    assert "nftables redirects what is asked there" in str(host["reason"])
    await answered_as_without_us(direct, container)
    assert others() == rules
    address = container.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    dug = await shell(f"dig +short {WEB}; dig +short -6 +tcp @{NAMESERVERS[2]} web.shop")
    assert dug.out.split() == [address] * 2
    assert (await shell("getent ahostsv4 www.public.example")).out.split()[0] == "198.51.100.7"
    assert (await shell(f"getent hosts {WEB}")).out.split()[0] == address
    assert address in (await shell(f"curl -v --max-time 1 http://{WEB}/ 2>&1 | head -3")).out
    os.kill(container.dns_process(), signal.SIGKILL)
    dug = await shell("dig +tries=1 +timeout=15 uncached.public.example")
    assert "status: NOERROR" in dug.out, "asked while there was no DNS process"
    container.run.process.kill()
    await container.run.process.wait()
    async with asyncio.timeout(10):
        while (await shell("nft list table inet resolverd")).out:
            await asyncio.sleep(0.05)
    assert others() == rules
    assert (await shell("getent hosts www.public.example")).code == 0


@pytest.mark.parametrize("has_nft", [False])
async def test_without_nft_it_is_the_file_and_single_labels_are_searched(
    direct: list[Said], container: Container
) -> None:
    host = (await container.healthy())["host"]
    assert "our server is put there, since nft is not installed" in str(host["reason"])
    assert host["search"] == ["shop.svc.cluster.local"]
    await answered_as_without_us(direct, container)
    address = container.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    for name in ("web", "web.shop", WEB):
        assert (await shell(f"getent hosts {name}")).out.split()[0] == address
    assert (await shell("getent hosts www.public.example")).code == 0
    container.run.process.kill()
    await container.run.process.wait()
    await eventually(lambda: RESOLV_CONF.read_text() == TEXT)
    assert (await shell("getent hosts www.public.example")).code == 0


async def test_a_namespace_that_the_file_searches_is_the_hosts_and_ours_again_when_it_does_not(
    container: Container,
) -> None:
    about = {"name": "web", "namespace": "branch"}
    container.cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "branch"}})
    made = container.cluster.create(
        {"kind": "Service", "apiVersion": "v1", "metadata": about, "spec": {"ports": [{"port": 80}]}}
    )
    address = made["spec"]["clusterIP"]

    async def until(short: str) -> None:
        async with asyncio.timeout(30):
            while (await shell("dig +short web.branch")).out.split() != short.split():
                await asyncio.sleep(0.1)

    await until(address)
    RESOLV_CONF.write_text(f"{TEXT}search eu.branch\n")
    await until("")
    withheld = (await container.healthy())["host"]["withheld"]
    assert isinstance(withheld, list)
    (item,) = [item for item in withheld if item["name"] == "branch"]
    assert (item["reason"], item["detail"]) == ("host-search-domain", "this host searches eu.branch")
    for pattern in item["still"]:
        assert (await shell(f"dig +short {pattern.replace('NAME', 'web')}")).out.split() == [address]
    RESOLV_CONF.write_text(TEXT)
    await until(address)
