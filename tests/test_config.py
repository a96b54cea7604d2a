"""Config file and flags: what is merged, and how mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from resolverd import config
from resolverd.errors import UsageError
from resolverd.settings import Mapping, Settings


def load(tmp_path: Path, text: str, **flags: object) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return config.load(str(file), {name.replace("__", "."): value for name, value in flags.items()})


def complaint(tmp_path: Path, text: str, **flags: object) -> str:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, **flags)
    assert caught.value.code == 2
    return str(caught.value).replace(str(tmp_path), "")


def test_nothing_written_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == load(tmp_path, "dns:\nhost: {}\n") == Settings()


def test_the_file_beats_the_defaults_and_a_flag_beats_the_file(tmp_path: Path) -> None:
    text = "dns: {ttl: 30s, search: [shop]}\nhost: {backend: none}\n"
    settings = load(tmp_path, text, host__backend="systemd-resolved")
    assert (settings.dns.ttl, settings.dns.search, settings.host.backend) == (30, ("shop",), "systemd-resolved")


def test_the_contract_s_example_is_read_to_its_last_line(tmp_path: Path) -> None:
    example = """
cluster: {kubeconfig: ~/.kube/config, context: "", namespaces: [], domain: auto}
dns:
  include-suffixes: [.corp.internal]
  exclude-suffixes: [.com, .io, .net, .org, .ru]
  excludes: []
  mappings: [{name: db.local-dev, alias-for: db.shop.svc.cluster.local}]
  search: [default]
  allow-collisions: [dev]
  suffix-list: auto
  ttl: 5s
  lookup-timeout: 2s
  upstreams: [9.9.9.9, "127.0.0.1:5399"]
  pod-records: insecure
  endpoint-pod-names: false
host: {backend: auto, route-namespaces: true}
tunnel:
  {enabled: true, device: resolverd0, routes: resolved, also-proxy: [], never-proxy: [10.0.0.0/8], transport: auto}
daemon: {state-dir: /run/resolverd, log-level: info, metrics: ""}
"""
    settings = load(tmp_path, example)
    assert settings.dns.mappings == (Mapping("db.local-dev", "db.shop.svc.cluster.local"),)
    assert settings.dns.include_suffixes == (".corp.internal",)
    assert settings.tunnel.never_proxy == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dns:\n  serch: [default]\n", ":2:3: unknown key serch, did you mean search?"),
        ("dsn: {}\n", ":1:1: unknown key dsn, did you mean dns?"),
        ("dns:\n  ttl: 5x\n", ":2:8: dns.ttl: '5x' is no duration"),
        ("dns:\n  ttl: 2h\n", ":2:8: dns.ttl: '2h' is not between 0s and 3600s"),
        ("dns:\n  ttl: 1500ms\n", "is not a whole number of seconds"),
        ("dns:\n  ttl: true\n", "is no duration"),
        ("dns:\n  exclude-suffixes: .com\n", "'.com' is no list"),
        ("dns:\n  exclude-suffixes: ['.']\n", "is no domain suffix"),
        ("dns:\n  search: [Shop]\n", "is no namespace name"),
        ("dns:\n  upstreams: ['9.9.9.9:dns']\n", "is no DNS server"),
        ("dns:\n  mappings: [{name: a, alias-for: 10.0.0.300}]\n", "is neither a domain name nor an IP address"),
        ("dns:\n  mappings: [{name: a, alias-for: 'a b'}]\n", "is neither a domain name nor an IP address"),
        ("dns:\n  mappings: [{name: a}]\n", "a mapping has the keys name and alias-for"),
        ("host:\n  backend: resolved\n", "is none of auto, systemd-resolved"),
        ("host:\n  route-namespaces: sure\n", "is neither true nor false"),
        ("tunnel:\n  never-proxy: [10.0.0.1/8]\n", "is no CIDR"),
        ("- a\n", ":1:1: the file must be a mapping"),
        ("dns: [a]\n", ":1:6: dns must be a mapping"),
        ("dns: {[a]: b}\n", "a key must be text"),
        ("dns: {\n", ":2:1: "),
        ("dns: {ttl: \x01}\n", "special characters are not allowed"),
        ("dns: {search: 2020-13-45}\n", ":1:15: dns.search: month must be in 1..12"),
        ("dns: {search: !!python/object:os.system {}}\n", ":1:15: dns.search: could not determine a constructor"),
        ("dns: {search: &a [*a]}\n", "dns.search: "),
        ("dns: {mappings: [{? [a] : b}]}\n", "dns.mappings: "),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, named: str) -> None:
    assert named in complaint(tmp_path, text)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, "dns:\n  ttl: x\n  typo: 1\n", host__backend="y")
    assert ":2:8:" in said
    assert ":3:3:" in said
    assert "--backend" in said


def test_a_named_file_must_exist_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        config.load(str(tmp_path / "absent.yaml"), {})
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UsageError, match="codec"):
        config.load(str(tmp_path / "latin.yaml"), {})


def test_without_a_name_the_usual_places_are_looked_at(tmp_path: Path) -> None:
    places = config.search_path("", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert places[0] == tmp_path / "resolverd" / "config.yaml"
    places[0].parent.mkdir()
    places[0].write_text("dns: {ttl: 7}")
    assert config.load("", {}, {"XDG_CONFIG_HOME": str(tmp_path)}).dns.ttl == 7
