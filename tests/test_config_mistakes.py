"""Config file and flags: what is merged, and how mistakes are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import NOBODY, resolverd

from resolverd import config
from resolverd.errors import UsageError
from resolverd.settings import Mapping, Settings


def load(tmp_path: Path, text: str, **flags: object) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return config.load(str(file), {name.replace("__", "."): value for name, value in flags.items()}).settings


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
        ("dns:\n  mappings: [{name: a}]\n", ":2:14: dns.mappings[0]: alias-for is missing"),
        ("dns:\n  mappings: [a]\n", ":2:14: dns.mappings[0]: 'a' is no mapping with the keys name and alias-for"),
        ("dns:\n  mappings: [{name: a, aliasfor: b}]\n", ":2:24: dns.mappings[0]: unknown key aliasfor, did you mean"),
        ("dns:\n  mappings: [{name: a, alias-for: 1.2.3.4.5}]\n", ":2:35: dns.mappings[0].alias-for: "),
        ("host:\n  backend: resolved\n", "is none of auto, systemd-resolved"),
        ("host:\n  route-namespaces: sure\n", "is neither true nor false"),
        (
            "tunnel:\n  never-proxy: [10.0.0.1/8]\n",
            ":2:17: tunnel.never-proxy[0]: '10.0.0.1/8' has host bits set, write 10.",
        ),
        ("tunnel:\n  also-proxy: [2001:db8::1/32, 10/8, x]\n", "has host bits set, write 2001:db8::/32"),
        ("tunnel:\n  also-proxy: [10/8]\n", "'10/8' is no CIDR such as 10.0.0.0/8"),
        ("daemon: {metrics: '0.0.0.0:9153'}\n", "daemon.metrics: '0.0.0.0:9153' is not on loopback"),
        ("daemon: {metrics: '127.0.0.1'}\n", "daemon.metrics: '127.0.0.1' is no ADDR:PORT"),
        ("- a\n", ":1:1: the file must be a mapping"),
        ("dns: [a]\n", ":1:6: dns must be a mapping"),
        ("dns: {[a]: b}\n", "a key must be text"),
        ("dns: {\n", ":2:1: "),
        ("dns:\n  {ttl: \x01}\n", ":2:9: the character U+0001 is not allowed in YAML"),
        ("dns: {search: 2020-13-45}\n", ":1:15: dns.search: '2020-13-45' is no list"),
        ("dns: {search: !!python/object:os.system {}}\n", ":1:15: dns.search: the tag tag:yaml.org,2002:python"),
        ("dns: {ttl: !!binary aGk=}\n", ":1:12: dns.ttl: the tag tag:yaml.org,2002:binary means nothing here"),
        ("dns: {ttl: !!int x}\n", ":1:12: dns.ttl: 'x' is no int"),
        ("dns: {search: &a [*a]}\n", ":1:15: dns.search[0]: a list is no text"),
        ("dns: {search: [a, no]}\n", ":1:19: dns.search[1]: YAML takes no for true or false, put it in quotes"),
        ("dns: {search: [null]}\n", "dns.search[0]: YAML takes null for nothing, put it in quotes"),
        ("dns: {search: [1]}\n", "dns.search[0]: YAML takes 1 for a number, put it in quotes"),
        ("dns: {search: [True, ~]}\n", "dns.search[0]: true is no text; "),
        ("cluster: {context: }\n", "cluster.context: nothing is no text"),
        ("dns: {ttl: 010}\n", ":1:12: dns.ttl: YAML takes 010 for 8, write that or put it in quotes"),
        ("dns: {ttl: 1:30}\n", "dns.ttl: YAML takes 1:30 for 90, write that or put it in quotes"),
        ("dns: {search: [0x1f]}\n", "dns.search[0]: YAML takes 0x1f for 31, write that or put it in quotes"),
        ("DNS: {}\n", "unknown key DNS, did you mean dns?"),
        ("ttl: 5s\n", "unknown key ttl, did you mean dns.ttl?"),
        ("dns: {backend: none}\n", "unknown key backend, did you mean host.backend?"),
        ("dns.ttl: 5s\n", "unknown key dns.ttl, write ttl below dns"),
        ("dns: {include_Suffixes: []}\n", "unknown key include_Suffixes, did you mean include-suffixes?"),
        ("dns: {upstreams: [9.9.9.9:0]}\n", "dns.upstreams[0]: '9.9.9.9:0' is no DNS server"),
        ("dns: {mappings: [{name: a.b, alias-for: c}, {name: A.b., alias-for: d}]}\n", "'a.b' is there twice"),
        ("tunnel: {device: a/b}\n", "tunnel.device: 'a/b' is no name for a device"),
        ("tunnel: {device: tun%d}\n", "tunnel.device: 'tun%d' is no name for a device"),
        ("tunnel: {device: sixteen-letters-}\n", "tunnel.device: 'sixteen-letters-' is no name for a device"),
        ("%YAML 3.0\n---\ndns: {}\n", ":1:1: found incompatible YAML document"),
        ("dns:\n\tttl: 5s\n", ":2:1: while scanning for the next token"),
        ("--- !!set {dns}\n", ":1:5: the file must be a mapping"),
        ("dns: {search: }\n", "dns.search: nothing is no list"),
        ("dns: {mappings: [{? [a] : b}]}\n", ":1:21: a key must be text"),
        ("dns: {ttl: 1}\nhost: {}\ndns: {}\n", ":3:1: key dns a second time, the first is at 1:1"),
        ("dns: {ttl: 1, ttl: 2}\n", ":1:15: key ttl a second time, the first is at 1:7"),
        ("dns: {<<: {ttl: 1}}\n", ":1:7: merge keys (<<) are not supported"),
        ("dns: {search: *nobody}\n", ":1:15: found undefined alias 'nobody'"),
        ("dns: {}\n---\nhost: {}\n", ":2:1: "),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, named: str) -> None:
    assert named in complaint(tmp_path, text)


def test_all_mistakes_are_named_at_once_each_item_by_itself(tmp_path: Path) -> None:
    text = "dns:\n  ttl: x\n  typo: 1\n  search:\n  - ok\n  - No\n  - Neither\n"
    said = complaint(tmp_path, text, host__backend="y", tunnel__enabled="sure")
    for place in (
        ":2:8: dns.ttl",
        ":3:3: ",
        ":6:5: dns.search[1]",
        ":7:5: dns.search[2]",
        "flag --backend: host.backend",
    ):
        assert place in said, place
    assert ":5:5:" not in said


def test_a_thousand_mistakes_are_one_line_that_ends(tmp_path: Path) -> None:
    said = complaint(tmp_path, "dns:\n  search: [" + "A, " * 5000 + "]\n")
    assert len(said) < 3000
    assert "and 980 more" in said


def test_what_refers_to_itself_or_grows_is_not_followed(tmp_path: Path) -> None:
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert "unknown key a1" in complaint(tmp_path, f"a0: &a0 [x]\n{laughs}")
    assert "is nested too deep" in complaint(tmp_path, "[" * 100_000)
    shared = "dns: {include-suffixes: &mine [.corp.internal], exclude-suffixes: *mine}\n"
    assert load(tmp_path, shared).dns.exclude_suffixes == (".corp.internal",)


def test_a_named_file_must_be_a_text_that_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def refused() -> str:
        with pytest.raises(UsageError) as caught:
            config.load(str(file), {})
        assert str(caught.value).startswith(f"config: {file}: ")
        return str(caught.value)

    assert "it does not exist" in refused()
    for octets, why in (
        (b"\xff\xfe\xfd", "it is UTF-16"),
        (b"dns:\n  search: [caf\xe9]\n", "it is not UTF-8: octet 0xe9 in line 2"),
        (b"#" * (config.document.MAX_SIZE + 1), "it is larger than"),
    ):
        file.write_bytes(octets)
        assert why in refused()
    file.unlink()
    os.mkfifo(file)
    assert "it is no regular file" in refused()
    file.unlink()
    file.mkdir()
    assert "it is a folder" in refused()
    file.rmdir()
    file.symlink_to(file)
    assert "it cannot be read: Too many levels of symbolic links" in refused()


@pytest.mark.staged
async def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    file.chmod(0o600)
    tmp_path.chmod(0o755)
    finished = await resolverd("run", "--config", str(file), user=NOBODY)
    assert (finished.code, "it cannot be read: Permission denied" in finished.complaint) == (2, True)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xef\xbb\xbfdns: {ttl: 9}\n")
    assert config.load(str(file), {}).settings.dns.ttl == 9


def test_without_a_name_the_usual_places_are_looked_at(tmp_path: Path) -> None:
    places = config.search_path("", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert places[0] == tmp_path / "resolverd" / "config.yaml"
    places[0].parent.mkdir()
    places[0].write_text("dns: {ttl: 7}")
    assert config.load("", {}, {"XDG_CONFIG_HOME": str(tmp_path)}).settings.dns.ttl == 7
