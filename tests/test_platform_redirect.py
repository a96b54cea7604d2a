"""Way A of the back end ``override`` on a real LAN host: nftables, and whatever others do to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from fakes import eventually
from lan_double import (
    RESOLV_CONF,
    SERVERS,
    TEXT,
    WANT,
    as_it_was,
    lan,
    nft,
    refused,
    rules_of_others,
    state,
    without_netns,
)
from resolved_double import ResolvedDouble

from resolverd.errors import HostError
from resolverd.host import Server
from resolverd.lookout import HostAsking
from resolverd_platform import detect
from resolverd_platform.nft import current, why_not
from resolverd_platform.override import OverrideBackend
from resolverd_platform.redirect import MARK
from resolverd_platform.resolv_conf import author_of

__all__ = ["as_it_was", "lan", "state"]
pytestmark = pytest.mark.staged


@pytest.fixture
async def redirecting(state: Path) -> AsyncIterator[OverrideBackend]:
    one = OverrideBackend("", state)
    yield one
    await one.revert()


@contextmanager
def answering(*servers: Server) -> Iterator[None]:
    """Says ``us`` to every datagram sent to ``servers``."""
    with ExitStack() as stack:
        for server in servers:
            kind = socket.AF_INET6 if server.address.version == 6 else socket.AF_INET
            one = stack.enter_context(socket.socket(kind, socket.SOCK_DGRAM))
            one.bind((str(server.address), server.port))
            thread = threading.Thread(target=say_us, args=(one,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(one.sendto, b"end", one.getsockname())
        yield


def say_us(one: socket.socket) -> None:
    while (got := one.recvfrom(512))[0] != b"end":
        one.sendto(b"us", got[1])


def who_answers(address: str, mark: int = 0, port: int = 0) -> str:
    """``us``, or ``them`` when it is a DNS server that does not know what to say to that, or ``nobody``."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        one.bind(("", port))
        one.connect((address, 53))
        one.send(bytes.fromhex("0001010000010000000000000161067075626c6963076578616d706c650000010001"))
        try:
            return "us" if one.recv(512) == b"us" else "them"
        except OSError:
            return "nobody"


async def test_every_name_server_is_redirected_for_all_but_us(redirecting: OverrideBackend) -> None:
    nameservers = [str(address) for address in (await redirecting.capabilities()).nameservers]
    assert nameservers == ["192.0.2.53", "192.0.2.54", "2001:db8::53"]
    applied = await redirecting.apply(WANT)
    assert applied.dns == replace(WANT, search=())
    assert applied.notes == ("single labels are not searched: the search list of /etc/resolv.conf stays as it is",)
    with answering(*SERVERS):
        assert [await asyncio.to_thread(who_answers, each) for each in nameservers] == ["us"] * 3
        assert [await asyncio.to_thread(who_answers, each, MARK) for each in nameservers] == ["them"] * 3
        await redirecting.revert()
        assert [await asyncio.to_thread(who_answers, each) for each in nameservers] == ["them"] * 3


@pytest.mark.parametrize("address", ["192.0.2.53", "2001:db8::53"])
async def test_a_port_that_one_of_us_had_before_goes_its_own_way(redirecting: OverrideBackend, address: str) -> None:
    await redirecting.apply(WANT)
    with answering(*SERVERS):
        for port, marks, expected in ((20053, (MARK, 0), ["them", "us"]), (20054, (0, MARK), ["us", "them"])):
            assert [await asyncio.to_thread(who_answers, address, mark, port) for mark in marks] == expected


async def test_the_lookout_asks_the_name_servers_past_us(redirecting: OverrideBackend) -> None:
    facts = await redirecting.capabilities()
    await redirecting.apply(WANT)
    servers = [Server(address) for address in facts.nameservers]
    with answering(*SERVERS):
        assert (await HostAsking().direct("www.public.example", servers, facts.mark)).address == "198.51.100.7"
        assert not (await HostAsking().direct("www.public.example", servers, 0)).address, "it came back to us"


async def test_docker_s_own_server_is_redirected_and_still_reached_by_us(redirecting: OverrideBackend) -> None:
    docker = """table ip dockers {
        chain out { type nat hook output priority -100; ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40011; };
        chain post { type nat hook postrouting priority 100; ip saddr 127.0.0.11 udp sport 40011 snat to :53; }; }"""
    nft("-f", "-", text=docker)
    RESOLV_CONF.write_text("nameserver 127.0.0.11\n")
    real = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    real.bind(("127.0.0.11", 40011))
    try:
        await redirecting.apply(WANT)
        with answering(SERVERS[0]):
            assert await asyncio.to_thread(who_answers, "127.0.0.11") == "us"
            asking = asyncio.create_task(asyncio.to_thread(who_answers, "127.0.0.11", MARK))
            _, asker = await asyncio.to_thread(real.recvfrom, 512)
            real.sendto(b"docker", asker)
            assert await asking == "them"
    finally:
        real.close()
        nft("delete", "table", "ip", "dockers")
        RESOLV_CONF.write_text(TEXT)


async def test_containers_are_redirected_only_when_asked_for(state: Path) -> None:
    reachable = replace(WANT, servers=(Server(ip_address("198.18.53.1")), Server(ip_address("fd53::1"))))
    for containers in (False, True):
        backend = OverrideBackend("", state, containers=containers)
        await backend.apply(reachable)
        assert ("hook prerouting" in nft("list", "table", "inet", "resolverd")) == containers
        await backend.revert()
    with pytest.raises(HostError, match=r"127.0.53.53, on loopback, is not reached by containers"):
        await OverrideBackend("", state, containers=True).apply(WANT)


_CONTAINER = """\
netns add box
link add box0 type veth peer name eth0 netns box
address add 192.0.3.1/24 dev box0
link set box0 up
"""
_IN_IT = """\
address add 192.0.3.2/24 dev eth0
link set eth0 up
route add default via 192.0.3.1
"""


_ASK = """import socket, sys
one = socket.socket(type=socket.SOCK_DGRAM)
one.settimeout(1)
one.sendto(b"?", ("192.0.2.53", 53))
try:
    sys.stdout.write(one.recv(100).decode())
except OSError:
    sys.stdout.write("nothing")
"""


@pytest.fixture
def container() -> Iterator[list[str]]:
    """The command that runs another in a container, which reaches the world through this host."""
    subprocess.run(["ip", "-batch", "-"], input=_CONTAINER, text=True, check=True)
    subprocess.run(["ip", "-netns", "box", "-batch", "-"], input=_IN_IT, text=True, check=True)
    yield ["ip", "netns", "exec", "box"]
    without_netns("box", "box0")


@pytest.mark.parametrize("asked_for", [True, False])
async def test_what_a_container_asks_of_the_hosts_name_server(
    container: list[str], state: Path, monkeypatch: pytest.MonkeyPatch, asked_for: bool
) -> None:
    """From a container's own namespace, by the choice that the environment makes."""
    monkeypatch.setenv(detect.CONTAINERS, "1" if asked_for else "")
    (candidate,) = [one for one in detect.CHAIN if one.name == "override"]
    ours = replace(WANT, servers=(Server(ip_address("192.0.2.2"), 5399),))

    backend = candidate.make(ResolvedDouble(), "", state)
    await backend.apply(ours)
    try:
        with answering(*ours.servers):
            process = await asyncio.create_subprocess_exec(
                *container, sys.executable, "-c", _ASK, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
    finally:
        await backend.revert()
        await backend.close()
    assert (said == b"us") == asked_for


async def test_other_programs_rules_are_not_touched_and_a_flush_of_theirs_does_not_touch_ours(
    redirecting: OverrideBackend,
) -> None:
    with rules_of_others() as rules:
        before = rules()
        await redirecting.apply(WANT)
        assert rules() == before
        nft("flush", "ruleset")
        assert (await redirecting.read()).servers == SERVERS
        assert redirecting._redirect.disturbance() == ""
        await redirecting.revert()
        assert rules() != before, "the flush was one"
    with rules_of_others() as rules:
        before = rules()
        await redirecting.apply(WANT)
        await redirecting.revert()
        assert rules() == before


async def test_nothing_is_done_when_it_is_there_already(redirecting: OverrideBackend) -> None:
    await redirecting.apply(WANT)
    handles = nft("--handle", "list", "ruleset")
    assert (await redirecting.apply(WANT)).dns.servers == SERVERS
    assert nft("--handle", "list", "ruleset") == handles


def holder() -> int:
    """The child that owns the table."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (found,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "nft\n"]
    return found


async def test_a_holder_that_dies_is_told_and_replaced_but_not_again_and_again(redirecting: OverrideBackend) -> None:
    await redirecting.apply(WANT)
    os.kill(holder(), signal.SIGKILL)
    reason = await asyncio.wait_for(anext(redirecting.disturbances()), 10)
    assert reason == "the process that holds our nftables table has ended"
    assert nft("list", "ruleset") == "", "the kernel has not removed it"
    await redirecting.apply(WANT)
    assert (await redirecting.read()).servers == SERVERS
    os.kill(holder(), signal.SIGKILL)
    await eventually(lambda: "ended" in redirecting._redirect.disturbance())
    with pytest.raises(HostError, match="our table was taken away again within 5 s"):
        await redirecting.apply(WANT)


async def test_one_that_cannot_be_started_is_told_and_tried_again(
    redirecting: OverrideBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((subprocess, "Popen"), (tempfile, "TemporaryFile")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, refused)
            with pytest.raises(HostError, match=r"nft: it cannot be (run|started): Resource temporarily unavailable"):
                await redirecting.apply(WANT)
    assert (await redirecting.apply(WANT)).dns.servers == SERVERS


async def test_new_name_servers_are_followed(redirecting: OverrideBackend) -> None:
    await redirecting.apply(WANT)
    RESOLV_CONF.write_text("nameserver 192.0.2.54\n")
    try:
        assert await asyncio.wait_for(anext(redirecting.disturbances()), 10) == "/etc/resolv.conf names other servers"
        assert list(map(str, (await redirecting.capabilities()).nameservers)) == ["192.0.2.54"]
        await redirecting.apply(WANT)
        assert "192.0.2.53" not in nft("list", "ruleset")
        assert redirecting._redirect.disturbance() == ""
    finally:
        RESOLV_CONF.write_text(TEXT)


async def test_a_file_that_names_our_own_server_is_no_reason_to_redirect_what_it_is_asked(
    redirecting: OverrideBackend,
) -> None:
    RESOLV_CONF.write_text(f"nameserver {SERVERS[0].address}\nnameserver 192.0.2.53\n")
    try:
        await redirecting.apply(WANT)
        assert (await current()).nameservers == {ip_address("192.0.2.53")}
    finally:
        RESOLV_CONF.write_text(TEXT)


async def test_two_at_once_are_refused(redirecting: OverrideBackend, tmp_path: Path) -> None:
    await redirecting.apply(WANT)
    second, other = OverrideBackend("", tmp_path), replace(WANT, servers=(Server(ip_address("127.0.53.54")),))
    with pytest.raises(HostError, match=r"nftables: .*not permitted.*resolverd down"):
        await second.apply(other)
    assert (await redirecting.read()).servers == SERVERS
    await redirecting.revert()
    assert (await second.apply(other)).dns.servers == other.servers, "what was refused once is not refused for good"
    await second.revert()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            '[ "$1" != --interactive ] || { echo "Error: interactive CLI not supported in this build" >&2; exit 1; }',
            "CLI",
        ),
        (
            '[ "$1" != --check ] || { echo "Error: Could not process rule: Operation not supported" >&2; exit 1; }',
            "rule",
        ),
    ],
    ids=["a build without a prompt", "a kernel without the owner flag"],
)
async def test_an_nft_that_cannot_hold_a_table_means_the_file(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    real = shutil.which("nft")
    (tmp_path / "nft").write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = await why_not(MARK)
    assert said.startswith("nft cannot: ")
    assert reason in said
    backend = OverrideBackend("", state)
    await backend.apply(WANT)
    assert author_of(RESOLV_CONF.read_text()) is not None
    await backend.revert()


async def test_only_link_local_name_servers_are_left_alone(redirecting: OverrideBackend) -> None:
    RESOLV_CONF.write_text("nameserver fe80::1%lan0\n")
    try:
        with pytest.raises(HostError, match="all its name servers are link-local"):
            await redirecting.apply(WANT)
    finally:
        RESOLV_CONF.write_text(TEXT)
