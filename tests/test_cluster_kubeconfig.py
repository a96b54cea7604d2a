"""Kubeconfig: which files, which context, and mistakes in one line."""

from __future__ import annotations

import base64
from pathlib import Path
from textwrap import dedent

import pytest

from resolverd.cluster import kubeconfig
from resolverd.cluster.credentials import environment_proxy
from resolverd.cluster.kubeconfig import Invoker
from resolverd.errors import ClusterError, UsageError

SECRET = "sesame-3141"


def write(path: Path, user: str = "{token: sesame-3141}", cluster: str = "{server: 'http://127.0.0.1:9/'}") -> str:
    path.write_text(
        dedent(f"""
        apiVersion: v1
        kind: Config
        current-context: a
        clusters: [{{name: c, cluster: {cluster}}}]
        users: [{{name: u, user: {user}}}]
        contexts:
        - {{name: a, context: {{cluster: c, user: u, namespace: shop}}}}
        - {{name: b, context: {{cluster: c, user: u}}}}
        """)
    )
    return str(path)


async def test_the_current_context_with_its_credentials(tmp_path: Path, scratch: Path) -> None:
    found = await kubeconfig.load(write(tmp_path / "config"), "", scratch)
    assert (found.name, found.namespace) == ("a", "shop")
    assert found.access.server == "http://127.0.0.1:9"
    assert found.access.token == f"Bearer {SECRET}"
    assert SECRET not in repr(found)


async def test_a_named_context_and_its_default_namespace(tmp_path: Path, scratch: Path) -> None:
    found = await kubeconfig.load(write(tmp_path / "config"), "b", scratch)
    assert (found.name, found.namespace) == ("b", "default")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


async def test_inline_certificates_arrive_and_leave_no_file(tmp_path: Path, scratch: Path) -> None:
    inline = base64.b64encode(b"PEM").decode()
    user = f"{{client-certificate-data: {inline}, client-key-data: {inline}}}"
    cluster = f"{{server: 'https://127.0.0.1:9', certificate-authority-data: {inline}, tls-server-name: k.test}}"
    found = await kubeconfig.load(write(tmp_path / "config", user, cluster), "", scratch)
    assert (found.access.cert_pem, found.access.key_pem, found.access.ca_pem) == ("PEM", "PEM", "PEM")
    assert found.access.tls_server_name == "k.test"
    assert list(scratch.iterdir()) == []


async def test_an_exec_plugin_gives_the_token(tmp_path: Path, scratch: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"from-plugin","expirationTimestamp":"2030-01-01T00:00:00Z"}}\'\n'
    )
    plugin.chmod(0o755)
    user = f"{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {plugin}, interactiveMode: Never}}}}"
    found = await kubeconfig.load(write(tmp_path / "config", user), "", scratch)
    assert found.access.token == "Bearer from-plugin"
    assert found.expires == 1893456000


async def test_paths_belong_to_the_file_they_are_written_in(tmp_path: Path, scratch: Path) -> None:
    for name, text in (
        ("a", "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9', certificate-authority: ca.pem}}]"),
        ("b", "users: [{name: u, user: {client-certificate: u.pem, client-key: u.pem}}]"),
        ("c", "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conf").write_text(f"apiVersion: v1\nkind: Config\n{text}\n")
    (tmp_path / "a" / "ca.pem").write_text("authority")
    (tmp_path / "b" / "u.pem").write_text("user")
    found = await kubeconfig.load(":".join(str(tmp_path / name / "conf") for name in "abc"), "", scratch)
    assert (found.access.ca_pem, found.access.cert_pem, found.access.key_pem) == ("authority", "user", "user")


async def test_the_first_current_context_counts(tmp_path: Path, scratch: Path) -> None:
    rest = "users: [{name: u, user: {}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n"
    for name in "ab":
        contexts = f"contexts: [{{name: {name}, context: {{cluster: c, user: u}}}}]\n"
        (tmp_path / name).write_text(f"current-context: {name}\n{contexts}{rest}")
    found = await kubeconfig.load(f"{tmp_path}/a:{tmp_path}/b", "", scratch)
    assert found.name == "a"


async def test_an_exec_plugin_that_fails_is_named(tmp_path: Path, scratch: Path) -> None:
    user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Never}}"
    with pytest.raises(ClusterError, match=r"exec.*log in again"):
        await kubeconfig.load(write(tmp_path / "config", user), "", scratch)


async def test_an_exec_plugin_that_is_not_there_is_said_to_be_so(tmp_path: Path, scratch: Path) -> None:
    user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, interactiveMode: Never}}"
    with pytest.raises(ClusterError, match="plugin no-such-plugin is not installed, or not in"):
        await kubeconfig.load(write(tmp_path / "config", user), "", scratch)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [", "line 1"),
        ("", "Invalid kube-config"),
        ("current-context: x\ncontexts: []\n", "name x"),
        ("current-context: x\ncontexts: 7\n", "kubectl config view"),
        ("[]", "kubectl config view"),
    ],
)
async def test_a_bad_file_is_one_line(tmp_path: Path, scratch: Path, text: str, named: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageError) as caught:
        await kubeconfig.load(str(tmp_path / "config"), "", scratch)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_plugin_that_hangs_is_stopped(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "PLUGIN_DEADLINE", 1.0)
    user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sleep, args: ['60'], interactiveMode: Never}}"
    with pytest.raises(ClusterError, match="no answer in 1 s"):
        await kubeconfig.load(write(tmp_path / "config", user), "", scratch)
    assert list(scratch.iterdir()) == []


def test_which_files(tmp_path: Path) -> None:
    one, home = tmp_path / "one", tmp_path / "home"
    one.touch()
    (home / ".kube").mkdir(parents=True)
    (home / ".kube" / "config").touch()
    elsewhere = {"HOME": str(tmp_path), "KUBECONFIG": f"{one}:{tmp_path}/absent"}
    assert kubeconfig.files("", None, elsewhere) == (one,)
    assert kubeconfig.files("", None, {"HOME": str(home)}) == (home / ".kube" / "config",)
    assert kubeconfig.files("~/.kube/config", Invoker("ada", home), {}) == (home / ".kube" / "config",)
    with pytest.raises(UsageError, match="absent does not exist"):
        kubeconfig.files(str(tmp_path / "absent"), None, {})


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://api.example:6443", {}, ""),
        ("https://api.example:6443", {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://api.example:6443", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://api.example:6443", {"HTTP_PROXY": "http://proxy:3128"}, ""),
        ("http://api.example:6443", {"HTTP_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://api.example:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "other, .example"}, ""),
        ("https://api.example:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "api.example:6443"}, ""),
        ("https://api.example:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "pi.example"}, "http://p"),
        ("https://api.example:6443", {"HTTPS_PROXY": "p", "no_proxy": "*"}, ""),
        ("https://10.1.2.3:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://11.1.2.3:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": "p", "NO_PROXY": "fd00::1"}, ""),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "p"}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": "p"}, ""),
    ],
)
def test_the_proxy_that_the_environment_names(server: str, environment: dict[str, str], proxy: str) -> None:
    assert environment_proxy(server, environment) == proxy
