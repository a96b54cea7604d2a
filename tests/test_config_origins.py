"""Where each value comes from: the merge of defaults, kubeconfig extensions, file and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from resolverd import config
from resolverd.config.known import KNOWN
from resolverd.errors import UsageError
from resolverd.settings import Mapping, Settings

HEAD = """apiVersion: v1
kind: Config
current-context: dev
contexts:
- {name: dev, context: {cluster: one, user: u}}
- {name: other, context: {cluster: two, user: u}}
"""


def clusters(*extensions: str, name: str = "one") -> str:
    listed = "".join(f"    - {text}\n" for text in extensions)
    return f"clusters:\n- name: {name}\n  cluster:\n    server: https://127.0.0.1:9\n    extensions:\n{listed}"


class Home:
    """A home folder with a kubeconfig and a config file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / ".kube" / "config"
        self.file = folder / "config.yaml"
        self.kubeconfig.parent.mkdir()

    def load(self, **flags: object) -> config.Loaded:
        named = str(self.file) if self.file.exists() else ""
        given = {name.replace("__", "."): value for name, value in flags.items()}
        return config.load(named, given, {"HOME": str(self.folder)})

    def complaint(self) -> str:
        with pytest.raises(UsageError) as caught:
            self.load()
        return str(caught.value).replace(str(self.folder), "")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_every_setting_and_every_item_has_an_origin(home: Home) -> None:
    home.file.write_text("dns:\n  ttl: 9s\n  include-suffixes:\n  - .a.test\n  - .b.test\n")
    loaded = home.load(host__backend="none", cluster__namespaces=["shop", "db"], tunnel__enabled=False)
    assert (loaded.path, loaded.looked_at) == (home.file, (home.file,))
    file = str(home.file)
    expected = {
        "dns.ttl": f"{file}:2:8",
        "dns.include-suffixes": f"{file}:4:3",
        "dns.include-suffixes[0]": f"{file}:4:5",
        "dns.include-suffixes[1]": f"{file}:5:5",
        "dns.exclude-suffixes": "default",
        "dns.exclude-suffixes[4]": "default",
        "host.backend": "flag --backend",
        "cluster.namespaces[1]": "flag --namespace",
        "tunnel.enabled": "flag --no-tunnel",
    }
    assert expected.items() <= loaded.origins.items()
    assert set(KNOWN) <= set(loaded.origins)
    assert "dns.search" in loaded.origins


def test_each_source_beats_the_ones_before_it_and_replaces_whole_lists(home: Home) -> None:
    theirs = "{dns: {excludes: [t.test], lookup-timeout: 3s}, never-proxy: [10.9.0.0/16]}"
    ours = "{dns: {excludes: [r.test]}, also-proxy: [10.8.0.0/16, 10.7.0.0/16]}"
    both = (f"{{name: resolverd.io, extension: {ours}}}", f"{{name: telepresence.io, extension: {theirs}}}")
    home.kubeconfig.write_text(HEAD + clusters(*both))
    loaded = home.load()
    settings, origins = loaded.settings, loaded.origins
    assert settings.dns.excludes == ("r.test",)
    assert origins["dns.excludes"] == origins["dns.excludes[0]"] == "kubeconfig extension resolverd.io of cluster one"
    assert settings.dns.lookup_timeout == 3
    assert origins["dns.lookup-timeout"] == "kubeconfig extension telepresence.io of cluster one"
    assert (settings.tunnel.also_proxy, settings.tunnel.never_proxy) == (
        ("10.8.0.0/16", "10.7.0.0/16"),
        ("10.9.0.0/16",),
    )
    home.file.write_text("dns: {excludes: []}\n")
    assert home.load().settings.dns.excludes == ()
    assert home.load().origins["dns.excludes"] == f"{home.file}:1:17"


def test_only_the_chosen_context_s_cluster_counts(home: Home, tmp_path: Path) -> None:
    ours = "{name: resolverd.io, extension: {never-proxy: [10.9.0.0/16]}}"
    home.kubeconfig.write_text(HEAD + clusters(ours, name="two"))
    assert home.load().settings.tunnel.never_proxy == ()
    assert home.load(cluster__context="other").settings.tunnel.never_proxy == ("10.9.0.0/16",)
    home.file.write_text("cluster: {context: other}\n")
    assert home.load().settings.tunnel.never_proxy == ("10.9.0.0/16",)
    moved = tmp_path / "elsewhere"
    home.kubeconfig.rename(moved)
    assert home.load().settings.tunnel.never_proxy == ()
    assert home.load(cluster__kubeconfig=str(moved)).settings.tunnel.never_proxy == ("10.9.0.0/16",)


def test_of_several_kubeconfigs_the_first_entry_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(clusters("{name: resolverd.io, extension: {never-proxy: [10.1.0.0/16]}}"))
    two.write_text(
        HEAD + clusters("{name: resolverd.io, extension: {never-proxy: [10.2.0.0/16], also-proxy: [10.2.0.0/16]}}")
    )

    def tunnel(*files: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = config.load("", {}, {"HOME": str(tmp_path), "KUBECONFIG": ":".join(map(str, files))}).settings.tunnel
        return found.never_proxy, found.also_proxy

    assert tunnel(one, tmp_path / "absent", two) == (("10.1.0.0/16",), ())
    assert tunnel(two, one) == (("10.2.0.0/16",), ("10.2.0.0/16",))


def test_telepresence_s_own_spellings(home: Home) -> None:
    home.kubeconfig.write_text(
        HEAD
        + """clusters:
- name: one
  cluster:
    server: https://127.0.0.1:9
    extensions:
    - name: telepresence.io
      extension:
        manager: {namespace: ambassador}
        dns:
          includeSuffixes: [.private]
          exclude-suffixes: []
          remote-ip: 10.0.0.1
          lookupTimeout: 1m
          mappings:
          - {name: my.db, aliasFor: db.shop}
        routing: {alsoProxySubnets: [10.1.2.3/8], virtualSubnet: 10.0.0.0/8}
        neverProxy: [10.10.8.9]
"""
    )
    assert "dns.lookup-timeout: '1m' is not between 0.1s and 30s" in home.complaint()
    home.kubeconfig.write_text(home.kubeconfig.read_text().replace(": 1m", ": 1s500ms"))
    loaded = home.load()
    dns, tunnel = loaded.settings.dns, loaded.settings.tunnel
    assert (dns.include_suffixes, dns.lookup_timeout) == ((".private",), 1.5)
    assert dns.mappings == (Mapping("my.db", "db.shop"),)
    assert (tunnel.also_proxy, tunnel.never_proxy) == (("10.0.0.0/8",), ("10.10.8.9/32",))
    assert loaded.origins["dns.exclude-suffixes"] == "default", "an empty list says nothing to Telepresence"
    assert [note.partition(": key ")[2].split()[0] for note in loaded.notes] == [
        "manager",
        "dns.remote-ip",
        "routing.virtual-subnet",
    ]
    assert loaded.notes[0].startswith(f"{home.kubeconfig}:14:9: ")


@pytest.mark.parametrize(
    ("extension", "named"),
    [
        ("{manager: {}}", "/.kube/config:12:40: extension resolverd.io: unknown key manager, known are dns.include"),
        ("{dns: {includeSuffixes: []}}", "unknown key dns.includeSuffixes, did you mean dns.include-suffixes?"),
        ("{never-proxy: [10.0.0.1/8]}", "/.kube/config:12:54: tunnel.never-proxy[0]: '10.0.0.1/8' has host bits set"),
        ("[a]", "the extension must be a mapping"),
        ("{dns: 5}", "dns must be a mapping"),
        ("{dns: {", "/.kube/config:13:1: "),
    ],
)
def test_a_mistake_in_our_extension_names_the_kubeconfig(home: Home, extension: str, named: str) -> None:
    home.kubeconfig.write_text(HEAD + clusters(f"{{name: resolverd.io, extension: {extension}}}"))
    assert named in home.complaint()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# resolverd.io\n[]",
        "# resolverd.io\nclusters: 7\ncontexts: {}\n",
        "# resolverd.io\ncurrent-context: x\ncontexts: [{name: x}]\nclusters: [{}]\n",
        HEAD + "clusters: [{name: one, cluster: {extensions: resolverd.io}}]\n",
        HEAD + "clusters: [{name: one, cluster: {extensions: [{name: resolverd.io}]}}]\n",
        HEAD + "clusters: [{name: one, cluster: {extensions: [{name: resolverd.io, extension: }]}}]\n",
        "a: [",
    ],
)
def test_a_kubeconfig_without_the_extension_changes_nothing(home: Home, text: str) -> None:
    assert home.load().settings == Settings()
    home.kubeconfig.write_text(text)
    assert home.load().settings == Settings()


def test_settings_are_read_without_the_kubernetes_client() -> None:
    import subprocess
    import sys

    program = "import resolverd.config, sys; print(*(m for m in ('kubernetes', 'aiohttp') if m in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""
