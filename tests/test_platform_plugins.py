"""Back ends and transports of other packages: the example of docs/adding.md, and packages that are broken."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import LONGEST, resolverd
from conftest import CHECKOUT
from ports import free_port
from resolved_double import ResolvedDouble

from resolverd import plugins
from resolverd.demo.cluster import DemoCluster
from resolverd.errors import HostError, UsageError
from resolverd_platform import detect
from resolverd_tunnel import transport


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the document, installed in a folder."""
    page = (CHECKOUT / "docs" / "adding.md").read_text()
    blocks = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert set(blocks) == {"pyproject.toml", "resolverd_dnsmasq.py"}
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name, text in blocks.items():
        (source / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


async def _until_there(file: Path, text: str) -> None:
    async with asyncio.timeout(LONGEST):
        while not file.exists() or text not in file.read_text():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [15, 9])
async def test_the_example_of_the_document_tells_its_resolver_and_takes_it_back(
    example: Path, tmp_path: Path, number: int
) -> None:
    (tmp_path / "dnsmasq.pid").write_text("no number: nobody is to be signalled\n")
    servers, port, state = tmp_path / "resolverd.servers", free_port(), str(tmp_path / "state")
    environment = {"PYTHONPATH": str(example), "RESOLVERD_DNSMASQ": str(tmp_path)}
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        arguments = ["run", "--backend", "dnsmasq", "--no-tunnel", "--dns-listen", f"127.0.0.1:{port}"]
        arguments += ["--kubeconfig", str(tmp_path / "kubeconfig"), "--state-dir", state]
        command = [sys.executable, "-P", "-m", "resolverd", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
        await _until_there(servers, f"server=/cluster.local/127.0.0.1#{port}\n")
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), LONGEST) == (0 if number == 15 else -9)
    assert servers.exists() == (number == 9)
    if number == 9:
        done = await resolverd("cleanup", "--state-dir", state, environment=environment)
        assert (done.code, done.err) == (0, "")
        assert f"{servers} removed" in done.out
        assert not servers.exists()


async def test_it_is_known_wherever_a_back_end_is_named(example: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("host: {backend: dnsmasq}\n")
    arguments = ("config", "check", "--config", str(tmp_path / "config.yaml"))
    assert (await resolverd(*arguments, environment={"PYTHONPATH": str(example)})).code == 0
    without = await resolverd(*arguments)
    assert (without.code, "dnsmasq' is none of auto" in without.out + without.err) == (2, True), without


PACKAGES = {
    "raises": "raise RuntimeError('two\\nlines')",
    "wrong": "part = 7",
    "works": """
from resolverd_platform.detect import Candidate, Found
from resolverd_platform.none import NoneBackend
async def look(bus, link): return Found(True, "a plugin suits")
async def fails(bus, link): raise KeyError("x")
def undo(state): raise OSError("cannot")
part = Candidate("works", look, lambda bus, link, state: NoneBackend(link), True, undo=undo)
fails = Candidate("fails", fails, part.make, True)
def make(access, unauthorized): return "a transport"
""",
}
POINTS = """\
[resolverd.backends]
a-raises = plugin_raises:part
b-wrong = plugin_wrong:part
c-missing = plugin_nowhere:part
d-fails = plugin_works:fails
e-works = plugin_works:part
none = plugin_works:part
[resolverd.transports]
broken = plugin_wrong:part
works = plugin_works:make
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in PACKAGES.items():
        (tmp_path / f"plugin_{name}.py").write_text(text)
    facts = tmp_path / "plugins-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._installed.cache_clear()
    yield
    plugins._installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
async def test_broken_ones_are_told_in_a_line_each_and_the_next_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(detect, "CHAIN", ())
    backend, reason = await detect.choose("auto", "", ResolvedDouble())
    assert (backend.name, reason.rpartition("; ")[2]) == ("none", "a plugin suits")
    assert "it failed with KeyError: 'x'" in reason
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(": ")[0] for line in warnings] == ["plugin a-raises", "plugin b-wrong", "plugin c-missing"]
    assert "plugin_raises:part: RuntimeError: two lines" in warnings[0]
    assert not any("\n" in line for line in warnings)


@pytest.mark.usefixtures("installed")
async def test_ours_come_first_and_their_names_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    backend, _ = await detect.choose("none", "", ResolvedDouble())
    assert (type(backend).__name__, caplog.records) == ("NoneBackend", [])
    with pytest.raises(HostError, match="taken by one of resolverd's own"):
        detect._candidate("none")


@pytest.mark.usefixtures("installed")
async def test_one_that_is_asked_for_and_broken_says_why() -> None:
    with pytest.raises(HostError, match=r"^plugin b-wrong: .*it is a int and no Candidate \(update its package"):
        await detect.choose("b-wrong", "", ResolvedDouble())
    with pytest.raises(HostError, match=r"there is none of that name .* or e-works or none\)"):
        await detect.choose("f", "", ResolvedDouble())


@pytest.mark.usefixtures("installed")
def test_one_that_cannot_undo_does_not_keep_the_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(detect, "CHAIN", ())
    assert detect.undo_leftovers(tmp_path) == []
    assert "plugin e-works: plugin_works:part: OSError: cannot" in caplog.text


@pytest.mark.usefixtures("installed")
def test_a_transport_is_found_by_its_name_and_a_broken_one_says_why() -> None:
    name, make = transport.named("works")
    assert (name, make(None, None)) == ("works", "a transport")  # type: ignore[arg-type,comparison-overlap]
    assert transport.named("auto")[0] == "port-forward"
    with pytest.raises(HostError, match=r"^plugin broken: plugin_wrong:part: TypeError"):
        transport.named("broken")
    with pytest.raises(UsageError, match="one of: auto, port-forward, broken, works"):
        transport.named("moon")
