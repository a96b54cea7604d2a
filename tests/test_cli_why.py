"""``resolverd why``: by the config file alone, of a plain daemon, and of a whole host that may do something else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from commands import resolverd, shell
from public_dns import public_dns
from test_cli_run import Plain, plain
from test_cli_up import Laptop, laptop, traits, until

from resolverd.demo.cluster import DemoCluster

__all__ = ["laptop", "traits"]


async def asked(name: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    finished = await resolverd("why", name, "-o", "json", *arguments)
    assert finished.code == code, finished
    document: dict[str, Any] = json.loads(finished.out)
    return document


async def test_by_the_config_file_alone(tmp_path: Path) -> None:
    config, state = tmp_path / "config.yaml", str(tmp_path / "none")
    config.write_text("dns:\n  include-suffixes: [.corp.internal]\n  excludes: [www.corp.internal]\n")
    alone = ("--config", str(config), "--state-dir", state)
    document = await asked("git.corp.internal", *alone)
    assert (document["answered-by"], document["rule"]["origin"]) == ("cluster-dns", f"{config}:2:22")
    assert (document["daemon"], document["complete"]) == (False, False)
    assert "answer" not in document
    assert (await asked("www.corp.internal", *alone))["rule"]["origin"] == f"{config}:3:14"
    assert (await asked("x.com", *alone))["rule"]["origin"] == "default"
    shown = await resolverd("why", "git.corp.internal", *alone)
    assert "no daemon runs" in " ".join(shown.out.split())
    shown = await resolverd("why", "web.shop", *alone)
    assert shown.out.startswith("web.shop is nobody's by the config file, and may be the cluster's\n")
    assert "\x1b" not in shown.out


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64, "a." * 130])
async def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    refused = await resolverd("why", name, "--state-dir", str(tmp_path))
    assert (refused.code, refused.out) == (2, "")
    assert "not a domain name" in refused.complaint


async def test_a_hostile_name_stays_on_its_line(tmp_path: Path) -> None:
    shown = await resolverd("why", "a\x1b[2Jb\nc.shop", "--state-dir", str(tmp_path))
    assert "\x1b" not in shown.out
    assert shown.out.startswith("a [2jb c.shop is ")


async def test_a_mistake_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("dns: {nonsense: 1}\n")
    refused = await resolverd("why", "x.y", "--config", str(tmp_path / "config.yaml"), "--state-dir", str(tmp_path))
    assert (refused.code, "nonsense" in refused.err) == (2, True)


async def test_a_plain_daemon(tmp_path: Path) -> None:
    config = "dns:\n  upstreams: []\n  excludes: [db.shop]\n"
    async with DemoCluster() as cluster, plain(tmp_path, cluster, config=config) as server:
        where = ("--state-dir", str(server.state))
        document = await asked("web.shop", *where)
        assert (document["answered-by"], document["rule"]["text"]) == ("normal-resolver", "shop")
        assert document["withheld"] == "icann-tld"
        assert "web.shop.svc" in document["still"]
        document = await asked("web.shop.svc", *where)
        assert document["answer"]["addresses"] == [await server.answer("web.shop.svc")]
        assert document["host"]["backend"] == "none"
        assert not document["host"]["intended"]["ours"]
        assert (await asked("db.shop", *where))["rule"]["origin"] == f"{tmp_path / 'config.yaml'}:3:14"
        await _origins_follow_the_file(server, tmp_path / "config.yaml")


async def _origins_follow_the_file(server: Plain, config: Path) -> None:
    config.write_text("# a line more\n" + config.read_text())

    async def moved() -> bool:
        document = await asked("db.shop", "--state-dir", str(server.state))
        return bool(document["rule"]["origin"] == f"{config}:4:14")

    await until(moved)


@pytest.mark.staged
async def test_a_whole_host(tmp_path: Path, laptop: Laptop) -> None:
    with public_dns(tmp_path):
        assert (await laptop.up()).code == 0
        document = await asked("docs.rs")
        assert (document["answered-by"], document["rule"]["kind"]) == ("normal-resolver", "withheld")
        assert (document["withheld"], document["changes"]) == ("icann-tld", ["dns.allow-collisions: [rs]"])
        assert document["lookup"]["addresses"][0].startswith("203.0.113.")
        assert document["answer"] is None
        shown = await resolverd("why", "docs.rs")
        assert "there is a namespace rs, but public names end in .rs (icann-tld)" in shown.out
        assert "docs.rs.svc.cluster.local docs.rs.svc" in shown.out
        assert max(map(len, shown.out.splitlines())) <= 80
        for name in ("web.shop", "web"):
            document = await asked(name)
            assert document["lookup"]["link"] == "resolverd0"
            assert document["lookup"]["addresses"] == document["answer"]["addresses"]
        pointer = await asked(document["answer"]["addresses"][0])
        assert pointer["lookup"]["addresses"] == ["web.shop.svc.cluster.local"]
        await _a_host_that_was_told_something_else()
        await _a_name_of_the_hosts_own_file()


async def _a_host_that_was_told_something_else() -> None:
    """It is set again at once, and after a second time not for five seconds."""
    async with asyncio.timeout(30):
        while True:
            await shell("resolvectl domain resolverd0 '~svc'")
            finished = await resolverd("why", "web.shop")
            if finished.code:
                break
    assert finished.code == 1
    assert "Differs    resolverd0 should have the domain ~shop, and has not" in finished.out


async def _a_name_of_the_hosts_own_file() -> None:
    hosts = Path("/etc/hosts")
    before = hosts.read_text()
    hosts.write_text(f"{before}192.0.2.9 web.shop.svc\n")

    async def noticed() -> bool:
        return "/etc/hosts" in (await resolverd("why", "web.shop.svc")).out

    await until(noticed)
    hosts.write_text(before)
