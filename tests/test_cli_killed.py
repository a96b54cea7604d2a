"""kill -9 at every step of start, change and stop: public names resolve again at once, and the host is as it was.

For each way in which a host is told: systemd-resolved, nftables, /etc/resolv.conf.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import resolverd, shell
from lan_double import RESOLV_CONF, TEXT, hidden, lan_host
from public_dns import public_dns
from test_cli_up import Laptop, laptop, lines, traits, until

from resolverd.demo.cluster import DemoCluster
from resolverd_platform.resolv_conf import author_of

__all__ = ["laptop", "traits"]
pytestmark = pytest.mark.staged

PROGRAM = str(Path(__file__).with_name("killed_at.py"))
DUMP = (
    "ip -brief link; ip -brief address; ip -4 route show table all; ip -6 route show table all; ip rule; ip -6 rule;"
    "ip netns list; nft list ruleset; resolvectl domain; resolvectl dns; ls -l --time-style=+ /etc/resolv.conf;"
    "cat /etc/resolv.conf; find /etc /run /dev/shm -xdev -not -path '/run/tmp/*' -not -path '/run/systemd/resolve*'"
    " -not -path '/run/stage/*' \\( -type d -printf '%p %m\\n' -o -printf '%p %m %s %l\\n' \\)"
)
EVERY = int(os.environ.get("RESOLVERD_TEST_EVERY_STEP", "11"))
"""Every how many steps it is killed: 1 for all of them, which takes some minutes."""
MOST = 400
"""More steps than there are."""
LEASE = TEXT.replace("nameserver 192.0.2.54\n", "")
"""What another program makes of /etc/resolv.conf."""


@dataclass(frozen=True)
class Way:
    """How the host is told, and how it is seen that it was."""

    arguments: tuple[str, ...]
    public: str
    """Succeeds while a public name resolves as in any program."""
    is_told: Callable[[], Awaitable[bool]]
    change: Callable[[DemoCluster, int], None]
    is_changed: Callable[[int], Awaitable[bool]]
    steps: frozenset[str]
    """Some of what a whole life does."""


async def resolved_told(domain: str = "~svc") -> bool:
    return domain in await lines("resolvectl domain resolverd0")


async def table_told(*nameservers: str) -> bool:
    found = (await shell("nft list table inet resolverd")).out
    return "dnat" in found and all(address in found for address in nameservers)


async def file_told() -> bool:
    return author_of(RESOLV_CONF.read_text()) is not None


def new_namespace(cluster: DemoCluster, step: int) -> None:
    cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": f"new-{step}"}})


def new_lease(cluster: DemoCluster, step: int) -> None:
    RESOLV_CONF.write_text(LEASE)


async def table_follows(step: int) -> bool:
    return await table_told() and not await table_told("192.0.2.54")


async def file_follows(step: int) -> bool:
    return await file_told() and "192.0.2.54" not in RESOLV_CONF.read_text()


OVERRIDE = ("--backend", "override", "--no-tunnel")
LAN_NAME = "timeout 1 getent hosts www.public.example"
WAYS = {
    "systemd-resolved": Way(
        (),
        "timeout 1 getent ahostsv4 example.com | grep -q 203.0.113",
        resolved_told,
        new_namespace,
        lambda step: resolved_told(f"~new-{step}"),
        frozenset({"bus SetLinkDNSEx", "bus SetLinkDomains", "bus RevertLink"}),
    ),
    "nftables": Way(OVERRIDE, LAN_NAME, table_told, new_lease, table_follows, frozenset({"nft', "})),
    "resolv.conf": Way(
        OVERRIDE, LAN_NAME, file_told, new_lease, file_follows, frozenset({"guard", "journal", "resolv.conf"})
    ),
}


@contextmanager
def host(way: str, folder: Path) -> Iterator[None]:
    """A host on which a public name resolves, and that is told in that way."""
    if way == "systemd-resolved":
        with public_dns(folder):
            yield
        return
    with lan_host():
        if way == "nftables":
            yield
            return
        with hidden("nft"):
            yield


async def live(folder: Path, way: Way, cluster: DemoCluster, step: int) -> list[str]:
    """A daemon's whole life, as long as it lasts: started, told of a change, stopped; its steps."""
    steps = folder / "steps"
    command = [sys.executable, PROGRAM, str(steps), str(step), "run", "--kubeconfig", str(folder / "kubeconfig")]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, *way.arguments, stdout=log, stderr=log)
    ended = asyncio.create_task(process.wait())

    async def over_or(condition: Callable[[], Awaitable[bool]]) -> None:
        async def is_so() -> bool:
            return await condition() or ended.done()

        try:
            await until(is_so)
        except TimeoutError:
            raise AssertionError((folder / "log").read_text() + steps.read_text()) from None

    await over_or(way.is_told)
    if not ended.done():
        await shell("timeout 5 getent hosts web.shop.svc.cluster.local")  # by the link it leaves a route
        way.change(cluster, step)
        await over_or(lambda: way.is_changed(step))
    if not ended.done():
        process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(ended, 20)
    made = steps.read_text().splitlines()
    assert code == (-signal.SIGKILL if len(made) >= step else 0), (folder / "log").read_text()
    return made


async def seconds_until_public_names_resolve(way: Way) -> float:
    began = time.monotonic()

    async def resolves() -> bool:
        return (await shell(way.public)).code == 0

    await until(resolves)
    return time.monotonic() - began


@pytest.mark.timeout(60 + 600 // EVERY)
@pytest.mark.parametrize("name", WAYS)
async def test_killed_at_any_step_it_leaves_a_working_host(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    way, longest = WAYS[name], (0.0, "")
    with host(name, tmp_path):
        before = (await shell(DUMP)).out
        async with DemoCluster() as cluster:
            (tmp_path / "kubeconfig").write_text(cluster.kubeconfig(token="t"))
            for step in range(1, MOST, EVERY):
                steps = await live(tmp_path, way, cluster, step)
                longest = max(longest, (await seconds_until_public_names_resolve(way), steps[-2:][0]))
                if step // EVERY % 2 and len(steps) >= step:
                    continue  # the next start finds what this one left
                await is_put_back(before, f"killed before {steps[-2:]}")
                if len(steps) < step:
                    break
            assert len(steps) < step, "the last life is a whole one"
    assert not [each for each in way.steps if not any(each in step for step in steps)], steps
    with capsys.disabled():  # no number fails it
        print(f"\n{name}: {len(steps)} steps, public names back after {longest[0]:.2f} s at most ({longest[1]})")


@pytest.mark.parametrize("module", ["resolverd.dns.worker", "resolverd_tunnel.worker"])
async def test_cleanup_waits_until_what_a_killed_daemon_has_started_is_gone(laptop: Laptop, module: str) -> None:
    assert (await laptop.up()).code == 0
    (held,) = [pid for pid in map(int, await laptop.children()) if module in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(held, signal.SIGSTOP)
    os.kill(await laptop.daemon(), signal.SIGKILL)
    cleaning = asyncio.create_task(resolverd("cleanup"))
    try:
        done, _ = await asyncio.wait([cleaning], timeout=3)
    finally:
        os.kill(held, signal.SIGCONT)
    assert not done, "what it leaves behind has the device, or the port"
    assert (await cleaning).code == 0


async def is_put_back(before: str, when: str) -> None:
    """After ``cleanup`` the host is as it was, but for what another program wrote."""
    cleaned = await resolverd("cleanup")
    assert cleaned.code == 0, cleaned
    if not RESOLV_CONF.is_symlink() and RESOLV_CONF.read_text() == LEASE:
        RESOLV_CONF.write_text(TEXT)
    assert (await shell(DUMP)).out == before, when
