"""``resolverd config`` as a user has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from commands import Finished, resolverd

from resolverd import config

TEXT = """dns:
  ttl: 7s
  search: [shop, "on"]
  mappings:
  - {name: db.local-dev, alias-for: db.shop}
tunnel: {never-proxy: [10.0.0.0/8]}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config" / "resolverd").mkdir(parents=True)
    return tmp_path


async def run(home: Path, *arguments: str) -> Finished:
    nothing = {"XDG_CONFIG_HOME": "", "KUBECONFIG": ""}
    return await resolverd("config", *arguments, environment={"HOME": str(home), **nothing})


async def test_what_is_shown_is_a_config_file_that_says_the_same(home: Path) -> None:
    file = home / ".config" / "resolverd" / "config.yaml"
    file.write_text(TEXT)
    shown = await run(home, "show", "--no-tunnel", "--namespace", "shop")
    assert (shown.code, shown.err) == (0, "")
    flags = {"tunnel.enabled": False, "cluster.namespaces": ["shop"]}
    (home / "again.yaml").write_text(shown.out)
    before = config.load("", flags, {"HOME": str(home)})
    assert config.load(str(home / "again.yaml"), {}, {"HOME": str(home)}).settings == before.settings
    comments = {line.split(":")[0].strip(): line.partition("# ")[2] for line in shown.out.splitlines()}
    assert comments["ttl"] == f"{file}:2:8"
    assert comments["enabled"] == "flag --no-tunnel"
    assert comments["namespaces"] == "flag --namespace"
    assert comments["backend"] == "default"
    assert f"  - 'on'{' ' * 40}" in shown.out
    assert f"# {file}:3:18\n" in shown.out
    columns = {line.index("  # ") for line in shown.out.splitlines() if "  # " in line}
    assert len(columns) == 1


async def test_show_as_json(home: Path) -> None:
    (home / "mine.yaml").write_text(TEXT)
    shown = json.loads((await run(home, "show", "-o", "json", "--config", str(home / "mine.yaml"))).out)
    assert shown["file"] == str(home / "mine.yaml")
    assert shown["settings"]["dns"]["ttl"] == {"value": "7s", "origin": f"{home}/mine.yaml:2:8"}
    assert shown["settings"]["dns"]["search"]["items"] == [f"{home}/mine.yaml:3:12", f"{home}/mine.yaml:3:18"]
    assert shown["settings"]["host"]["backend"] == {"value": "auto", "origin": "default"}


async def test_check_prints_a_line_for_each_mistake(home: Path) -> None:
    file = home / "mine.yaml"
    file.write_text("dns:\n  ttl: 7x\n  search: [A, b, C]\nhots: {}\n")
    checked = await run(home, "check", "--config", str(file))
    assert (checked.code, checked.err) == (2, "")
    places = [line.split(": ")[0].removeprefix(f"{file}:") for line in checked.out.splitlines()]
    assert places == ["2:8", "3:12", "3:18", "4:1"]
    file.write_text(TEXT)
    checked = await run(home, "check", "--config", str(file))
    assert (checked.code, checked.out) == (0, f"{file}: no mistakes\n")
    assert (await run(home, "check")).code == 0
    shown = await run(home, "show", "--config", str(home / "absent"))
    assert (shown.code, "absent: it does not exist" in shown.complaint) == (2, True)


async def test_path_tells_which_file_is_read(home: Path) -> None:
    file = home / ".config" / "resolverd" / "config.yaml"
    before = await run(home, "path")
    assert f"{file}: not there\n" in before.out
    file.write_text(TEXT)
    assert (await run(home, "path")).out.splitlines()[0] == f"{file}: read"
    assert f"{home}/.kube/config: kubeconfig, not there" in before.out


async def test_schema_is_json(home: Path) -> None:
    schema = json.loads((await run(home, "schema")).out)
    assert schema["properties"]["dns"]["properties"]["ttl"]["default"] == "5s"
    assert yaml.safe_load(TEXT).keys() <= schema["properties"].keys()
