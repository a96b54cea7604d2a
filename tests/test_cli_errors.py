"""What goes wrong ends in one line that says what, why and what to do, with the contract's exit code."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from commands import NOBODY, Finished, resolverd, shell

from resolverd.demo.cluster import DemoCluster, Traits

PLAIN = ("run", "--backend", "none", "--no-tunnel", "--dns-listen", "127.0.0.1:0")


def check(finished: Finished, code: int, *said: str) -> None:
    assert finished.code == code, finished
    assert all(text in finished.complaint for text in said), finished.complaint
    assert finished.complaint.endswith(")"), "no fix"
    assert "Traceback" not in finished.err


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster() as one:
        yield one


def kubeconfig(folder: Path, cluster: DemoCluster, token: str = "") -> str:
    file = folder / "kubeconfig"
    file.write_text(cluster.kubeconfig(token=token))
    return str(file)


async def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
    state = folder / "state"
    finished = await resolverd(*arguments, "--state-dir", str(state), environment=environment)
    assert not state.exists(), "something was left behind"
    return finished


async def test_no_kubeconfig(tmp_path: Path) -> None:
    finished = await run(tmp_path, *PLAIN, environment={"HOME": str(tmp_path), "KUBECONFIG": ""})
    check(finished, 2, "no kubeconfig", ".kube/config does not exist", "--kubeconfig FILE")


async def test_a_kubeconfig_without_sense(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("clusters: 7\n")
    check(await run(tmp_path, *PLAIN, "--kubeconfig", str(tmp_path / "kubeconfig")), 2, "kubeconfig")


async def test_a_context_that_is_not_there(tmp_path: Path, cluster: DemoCluster) -> None:
    finished = await run(tmp_path, *PLAIN, "--kubeconfig", kubeconfig(tmp_path, cluster), "--context", "moon")
    check(finished, 2, "moon")


async def test_an_api_server_that_is_not_there(tmp_path: Path, cluster: DemoCluster) -> None:
    file = kubeconfig(tmp_path, cluster)
    await cluster.refuse()
    check(await run(tmp_path, *PLAIN, "--kubeconfig", file), 5, cluster.server, "Connection refused")


async def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, cluster: DemoCluster) -> None:
    for name in ("click", "yaml", "aiohttp", "kubernetes", "resolverd"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not to be imported')\n")
    file = kubeconfig(tmp_path, cluster)
    await cluster.refuse()
    arguments = " ".join((*PLAIN, "--kubeconfig", file, "--state-dir", str(tmp_path / "state")))
    finished = await shell(f"cd {tmp_path} && exec {sys.executable} -P -m resolverd {arguments}")
    check(finished, 5, cluster.server, "Connection refused")
    assert "not to be imported" not in finished.err


async def test_an_api_server_that_refuses_us(tmp_path: Path) -> None:
    async with DemoCluster(traits=Traits(tokens={})) as cluster:
        finished = await run(tmp_path, *PLAIN, "--kubeconfig", kubeconfig(tmp_path, cluster, "wrong-secret"))
        check(finished, 5, "Unauthorized", "log in")
        assert "wrong-secret" not in finished.err
        finished = await run(tmp_path, *PLAIN, "--kubeconfig", kubeconfig(tmp_path, cluster))
        check(finished, 5, "cannot list resource", "--namespace NS")


async def test_a_port_in_use(tmp_path: Path, cluster: DemoCluster) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("run", "--backend", "none", "--no-tunnel", "--dns-listen", listen)
        finished = await run(tmp_path, *arguments, "--kubeconfig", kubeconfig(tmp_path, cluster))
    check(finished, 6, listen, "in use")


async def test_nowhere_to_listen(tmp_path: Path, cluster: DemoCluster) -> None:
    arguments = ("run", "--backend", "none", "--no-tunnel", "--kubeconfig", kubeconfig(tmp_path, cluster))
    check(await run(tmp_path, *arguments), 2, "--dns-listen")


async def test_bad_usage_and_bad_config(tmp_path: Path) -> None:
    check(await resolverd("statsu"), 2, "bad usage", "resolverd --help")
    check(await resolverd("run", "--backend", "magic"), 2, "bad usage", "resolverd run --help")
    (tmp_path / "config.yaml").write_text("dns:\n  tll: 5s\n")
    check(await run(tmp_path, *PLAIN, "--config", str(tmp_path / "config.yaml")), 2, "config.yaml:2:3", "mean ttl?")


async def test_nobody_runs(tmp_path: Path) -> None:
    for command in (("status",), ("query", "web.shop")):
        check(await resolverd(*command, "--state-dir", str(tmp_path)), 3, "not running", "resolverd up")
    finished = await resolverd("down", "--state-dir", str(tmp_path))
    assert (finished.code, finished.err) == (0, "")


@pytest.mark.staged
async def test_no_back_end_suits(tmp_path: Path, cluster: DemoCluster) -> None:
    file = kubeconfig(tmp_path, cluster)
    bare = "mount -t tmpfs none /run/dbus && mount -t tmpfs -o ro none /run/systemd && mount -o remount,ro,bind /etc"
    for command in ("run", "up"):
        # Without the right to change the network, nor the file.
        resolverd = f"{sys.executable} -m resolverd {command} --kubeconfig {file} --state-dir {tmp_path}/state"
        without = f"setpriv --bounding-set -net_admin --inh-caps -net_admin {resolverd}"
        finished = await shell(f"unshare --mount sh -c '{bare} && exec {without}'")
        check(finished, 6, "bus", "nft cannot", "may not be written", "--backend none")


@pytest.mark.staged
async def test_no_tun(tmp_path: Path, cluster: DemoCluster) -> None:
    file = kubeconfig(tmp_path, cluster)
    run = f"{sys.executable} -m resolverd run --kubeconfig {file} --state-dir {tmp_path}/s"
    command = f"mount -t tmpfs none /dev/net && {run}"
    check(await shell(f"unshare --mount sh -c '{command}'"), 6, "/dev/net/tun", "modprobe tun")


@pytest.mark.staged
async def test_a_device_of_that_name(tmp_path: Path, cluster: DemoCluster) -> None:
    (tmp_path / "config.yaml").write_text("tunnel: {device: lo}\n")
    arguments = ("run", "--config", str(tmp_path / "config.yaml"), "--kubeconfig", kubeconfig(tmp_path, cluster))
    check(await run(tmp_path, *arguments), 6, "device lo")


@pytest.mark.staged
async def test_not_root(tmp_path: Path, cluster: DemoCluster) -> None:
    file = kubeconfig(tmp_path, cluster)
    tmp_path.chmod(0o777)
    state = ("--state-dir", str(tmp_path / "state"))
    check(await resolverd("run", "--kubeconfig", file, *state, user=NOBODY), 4, "root")
    check(await resolverd("up", "--kubeconfig", file, *state, user=NOBODY), 4, "root")
    check(await resolverd("run", "--kubeconfig", file, "--state-dir", "/run/x", user=NOBODY), 4, "may not write")
    assert not (tmp_path / "state").exists()
