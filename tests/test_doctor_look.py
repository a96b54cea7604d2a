"""How ``doctor`` reads files and tables, and that nothing it looks at can hold it up."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from commands import NOBODY, resolverd
from tls_front import Authority

from resolverd.doctor import expiry, gather, look_daemon, look_host, look_kubeconfig, look_resolver
from resolverd.doctor.facts import Part, Running, Tun
from resolverd.errors import HostError
from resolverd.settings import ClusterSettings, DnsSettings, Settings
from resolverd_platform import suffix_list
from resolverd_platform.command import Finished
from resolverd_platform.dbus import Call, NoBusError


def test_a_certificate_says_when_it_ends(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    told = ssl._ssl._test_decode_cert(str(authority.folder / "client.pem"))["notAfter"]  # type: ignore[attr-defined]
    assert expiry.of_certificate((authority.folder / "client.pem").read_text()) == ssl.cert_time_to_seconds(told)


@pytest.mark.parametrize("text", ["", "no certificate", f"{ssl.PEM_HEADER}\nAAAA\n{ssl.PEM_FOOTER}\n"])
def test_what_is_no_certificate_says_nothing(text: str) -> None:
    assert expiry.of_certificate(text) is None


def test_a_token_says_when_it_ends_if_it_is_one() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_900_000_000}).encode()).decode().rstrip("=")
    assert expiry.of_token(f"Bearer e30.{claims}.c2ln") == 1_900_000_000.0
    for other in ("", "Bearer opaque", "Bearer a.!!!.c", "Bearer e30.W10.x", "Bearer e30.e30.x"):
        assert expiry.of_token(other) is None


def written(path: Path, document: object, mode: int = 0o600) -> Path:
    path.write_text(yaml.safe_dump(document))
    path.chmod(mode)
    return path


def kubeconfig_of(user: dict[str, object]) -> dict[str, object]:
    return {
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://x"}}],
        "users": [{"name": "u", "user": user}],
    }


@pytest.mark.parametrize(
    ("user", "mode", "exposed"),
    [
        ({"token": "t"}, 0o600, False),
        ({"token": "t"}, 0o640, True),
        ({"client-key-data": "k"}, 0o604, True),
        ({"exec": {"command": "aws"}}, 0o644, False),
        ({"exec": {"command": "aws"}}, 0o664, True),
    ],
)
def test_a_kubeconfig_is_exposed_when_others_read_secrets_or_write_it(
    tmp_path: Path, user: dict[str, object], mode: int, exposed: bool
) -> None:
    path = written(tmp_path / "k", kubeconfig_of(user), mode)
    facts = look_kubeconfig.look(ClusterSettings(kubeconfig=str(path)), None, {})
    assert bool(facts.exposed) == exposed


def test_kubeconfigs_are_merged_as_kubectl_does_and_plugins_looked_for(tmp_path: Path) -> None:
    plugin = tmp_path / "bin" / "plug"
    plugin.parent.mkdir()
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    first = written(tmp_path / "a", {"contexts": None, "users": [{"name": "u", "user": {"exec": {"command": "plug"}}}]})
    second = written(tmp_path / "b", kubeconfig_of({"token": "t"}))
    settings = ClusterSettings(kubeconfig=f"{first}:{second}:{tmp_path / 'none'}")
    facts = look_kubeconfig.look(settings, None, {"PATH": str(plugin.parent)})
    assert (facts.context, facts.contexts, facts.cluster, facts.user) == ("dev", ("dev",), "c", "u")
    assert (facts.has_cluster, facts.has_user) == (True, True)
    assert (facts.plugin, facts.plugin_path) == ("plug", str(plugin))
    assert facts.missing == (str(tmp_path / "none"),)
    assert look_kubeconfig.look(settings, None, {"PATH": "/none"}).plugin_path == ""
    (tmp_path / "a").write_text("{")
    assert "while parsing" in look_kubeconfig.look(settings, None, {}).malformed


async def test_a_host_is_read_from_its_tables(tmp_path: Path) -> None:
    for folder in ("proc/net", "proc/self", "proc/sys/fs/inotify", "dev/net"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/net/udp").write_text("head\n 1: 3500007F:0035 0:0 07 x\n 2: 00000000:14E9 0:0 07 x\n")
    (tmp_path / "proc/net/tcp6").write_text(
        f"head\n 1: {'0' * 32}:0035 0:0 0A x\n 2: {'0' * 24}01000000:0035 0:0 01 x\n"
    )
    (tmp_path / "proc/self/status").write_text("Name: x\nCapEff:\t0000000000001000\n")
    (tmp_path / "proc/sys/fs/inotify/max_user_watches").write_text("1000\n")
    rules = [
        {"chain": {"family": "inet", "table": "f", "name": "in", "hook": "input", "policy": "drop"}},
        {"chain": {"family": "inet", "table": "g", "name": "in", "hook": "input", "policy": "drop"}},
        {"chain": {"family": "inet", "table": "f", "name": "out", "hook": "output", "policy": "drop"}},
        {"rule": {"family": "inet", "table": "g", "chain": "in", "expr": [{"right": "resolverd0"}]}},
    ]

    async def run(*_: str) -> Finished:
        return Finished(0, json.dumps({"nftables": rules}), "")

    facts = await look_host.look(Settings(), "cluster.local", run, tmp_path)
    assert set(facts.taken) == {ip_address("127.0.0.53"), ip_address("::")}
    assert (facts.may_administer, facts.tun, facts.inotify_watches) == (True, Tun.MISSING, 1000)
    assert facts.inotify_instances is None
    assert facts.suffix_list_day > "2026"
    for name, expected in (("own.dat", "2024-05-06"), ("absent.dat", "")):
        if expected:
            (tmp_path / name).write_text(f"// VERSION: {expected}\n{suffix_list.BEGIN}\nrs\n{suffix_list.END}\n")
        own = Settings(dns=DnsSettings(suffix_list=str(tmp_path / name)))
        found = await look_host.look(own, "cluster.local", run, tmp_path)
        assert (found.suffix_list_day, bool(found.suffix_list)) == (expected, bool(expected))

    async def refused(*_: str) -> Finished:
        raise HostError("nft", "it may not be run")

    assert (await look_host.look(Settings(), "cluster.local", refused, tmp_path)).drops is None


class _NoBus:
    binding, deadline = "none", 1.0

    async def call(self, call: Call) -> tuple[object, ...]:
        raise NoBusError("No such file or directory")

    async def close(self) -> None:
        """Nothing is open."""


async def test_resolv_conf_and_nsswitch_are_read_and_no_bus_is_told(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("nameserver 127.0.0.53\noptions edns0 ndots:2\nsearch a.example b.example\n")
    (tmp_path / "n").write_text("passwd: files\nhosts:\tfiles resolve [!UNAVAIL=return] dns # why\n")
    facts = await look_resolver.look(_NoBus(), "resolverd0", tmp_path / "r", tmp_path / "n")  # type: ignore[arg-type]
    assert (facts.bus, facts.is_running, facts.is_used) == ("No such file or directory", False, True)
    assert (facts.ndots, facts.search) == (2, ("a.example", "b.example"))
    assert facts.hosts == ("files", "resolve", "[!UNAVAIL=return]", "dns")
    missing = await look_resolver.look(_NoBus(), "resolverd0", tmp_path / "x", tmp_path / "x")  # type: ignore[arg-type]
    assert (missing.has_resolv_conf, missing.hosts, missing.ndots) == (False, None, 1)


def test_another_users_daemon_is_seen(tmp_path: Path) -> None:
    import socket

    other = tmp_path / "users" / "1000" / "resolverd"
    other.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(other / "resolverd.sock"))
        listening.listen()
        facts = look_daemon.look(str(tmp_path / "own"), tmp_path / "r", (), tmp_path / "users")
        assert facts.others == (str(other),)
    facts = look_daemon.look(str(tmp_path / "own"), tmp_path / "r", (), tmp_path / "users")
    assert (facts.others, facts.running, facts.left) == ((), Running.NO, ())


async def test_what_hangs_or_fails_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    over = threading.Event()

    async def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(look_daemon, "look", lambda _: over.wait(30))
    monkeypatch.setattr(look_resolver, "look", broken)
    monkeypatch.setattr(gather, "DEADLINES", {**gather.DEADLINES, Part.DAEMON: 0.05})
    said: list[str] = []
    flags = {"cluster.kubeconfig": str(tmp_path / "none")}
    facts = await asyncio.wait_for(gather.gather("", flags, said.append), 20)
    over.set()
    assert facts.unknown[Part.DAEMON] == "looking took more than 0.05 s"
    assert facts.unknown[Part.RESOLVER] == "looking failed: RuntimeError: two lines"
    assert any("daemon" in text for text in said)


@pytest.mark.staged
async def test_a_plain_user_gets_an_answer_too(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("{}\n")
    examined = await resolverd(
        "doctor", "--kubeconfig", str(tmp_path / "none"), "--config", str(config), "-o", "json", user=NOBODY
    )
    assert examined.code == 1, examined
    document = json.loads(examined.out)
    assert [check["id"] for check in document["checks"] if check["state"] == "failed"] == ["kubeconfig"]
    assert document["checks"][0]["state"] == "ok"
