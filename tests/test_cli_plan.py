"""``resolverd plan``: with a cluster and without, with a daemon and without; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import resolverd, shell
from test_cli_up import DUMP, Laptop, laptop, traits

from resolverd.cli import plan
from resolverd.demo.cluster import DemoCluster

__all__ = ["laptop", "traits"]


async def planned(*arguments: str) -> dict[str, Any]:
    finished = await resolverd("plan", "-o", "json", *arguments)
    assert (finished.code, finished.err) == (0, ""), finished
    document: dict[str, Any] = json.loads(finished.out)
    return document


def steps(document: dict[str, Any]) -> set[str]:
    return {f"{each['step']} {each['name']}" for each in document["changes"]}


async def test_a_plain_server_changes_nothing_on_the_host(tmp_path: Path) -> None:
    arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", "127.0.0.1:5300", "--state-dir", str(tmp_path)]
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        document = await planned(*arguments, "--kubeconfig", str(tmp_path / "kubeconfig"))
        assert steps(document) == {"+ 127.0.0.1:5300"}
        assert document["cluster"]["namespaces"] == 8
        assert {"rs", "dev"} <= {item["name"] for item in document["withheld"]}
        await cluster.refuse()
        document = await planned(*arguments, "--kubeconfig", str(tmp_path / "kubeconfig"))
        assert "refused" in document["cluster"]["trouble"].lower()
    shown = await resolverd("plan", *arguments, "--kubeconfig", str(tmp_path / "absent"))
    assert shown.code == 0
    assert "not seen, so its namespaces are not known: no kubeconfig" in " ".join(shown.out.split())
    assert max(map(len, shown.out.splitlines())) <= 100


def test_a_terminal_gets_as_much_of_a_line_as_it_has_room_for_and_a_pipe_all() -> None:
    domain = {"step": "+", "what": "domain", "name": "~" + "a" * 62, "because": "namespace\x1b[2J"}
    document = {
        "backend": "none", "reason": "asked for", "daemon": False, "config": None, "withheld": [], "warnings": [],
        "cluster": {"context": "dev", "namespaces": 1, "trouble": ""}, "changes": [domain],
    }  # fmt: skip
    (cut,) = [line for line in plan.lines(document, cut=60) if line.startswith("+")]
    assert cut == "+ domain   ~" + "a" * 47 + "…"
    (whole,) = [line for line in plan.lines(document) if line.startswith("+")]
    assert whole == "+ domain   ~" + "a" * 62 + " namespace [2J"
    assert "Cluster    dev, 1 namespace" in plan.lines(document)


@pytest.mark.staged
async def test_beside_what_is_in_force(laptop: Laptop) -> None:
    where = ("--kubeconfig", str(laptop.folder / "kubeconfig"), "--config")
    before = (await shell(DUMP)).out
    document = await planned(*where, str(laptop.folder / "config.yaml"))
    assert {"+ resolverd0", "+ ~svc", "+ ~shop", "+ shop.svc.cluster.local", "+ 10.96.0.0/16"} <= steps(document)
    assert (await shell(DUMP)).out == before
    assert not Path("/run/resolverd").exists()
    assert (await laptop.up()).code == 0
    document = await planned(*where, str(laptop.folder / "config.yaml"))
    assert {step[0] for step in steps(document)} == {"="}, steps(document)
    other = laptop.folder / "other.yaml"
    other.write_text("dns: {include-suffixes: [.corp.test]}\n")
    document = await planned(*where, str(other))
    assert {step for step in steps(document) if step[0] != "="} == {"+ ~corp.test", "- ~shop"}
    document = await planned(*where, str(other), "--backend", "override")
    assert "+ nftables table inet resolverd" in steps(document)
    assert "= ~cluster.local" in steps(document)
    assert not (await shell("nft list tables")).out
