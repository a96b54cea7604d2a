"""What the pages quote, the program says; and the examples can be read by those they are for."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import CHECKOUT

from resolverd.cli.commands import cli
from resolverd.config.known import KNOWN
from resolverd.demo.itinerary import AFTERWARDS, TOUR

EXAMPLES = CHECKOUT / "docs" / "examples"
SOURCES = [path for folder in ("resolverd", "platform", "tunnel") for path in (CHECKOUT / folder).rglob("*.py")]


def said_by(source: Path) -> set[str]:
    """Every text of a module, what varies in it (in the log's texts, too) written as ``…``."""
    texts = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.JoinedStr):
            texts.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value.replace("%s", "…"))
    return texts


def quoted() -> list[str]:
    page = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
    section = page.split("## What it says\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)


def test_every_message_the_page_quotes_comes_from_the_code() -> None:
    texts = set().union(*(said_by(source) for source in SOURCES if "demo" not in source.parts))
    messages = quoted()
    assert len(messages) > 25
    # The whole of a text, or its end after what is said of the place: "the host's resolver: another program ...".
    missing = [one for one in messages if not any(text == one or text.endswith(f": {one}") for text in texts)]
    assert missing == []


@pytest.mark.parametrize(("title", "least"), [("Troubleshooting", 8), ("Addresses that are not routed", 9)])
def test_every_key_and_reason_the_page_quotes_is_one_of_the_code(title: str, least: int) -> None:
    texts = set().union(*(said_by(source) for source in SOURCES if "demo" not in source.parts))
    page = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
    section = re.split(rf"^##? {title}\n", page, flags=re.MULTILINE)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    named = [word for row in rows for word in re.findall(r"`([a-z-]+)`", row)]
    assert len(named) >= least
    assert set(named) <= texts


def test_every_check_the_page_sends_its_reader_to_exists() -> None:
    texts = set().union(*(said_by(source) for source in SOURCES if "demo" not in source.parts))
    page = " ".join((CHECKOUT / "docs" / "troubleshooting.md").read_text().split())
    named = [
        word for group in re.findall(r"checks? ((?:`[a-z-]+`(?:, | and )?)+)", page) for word in group.split("`")[1::2]
    ]
    assert len(named) >= 5
    assert set(named) <= texts


@pytest.mark.parametrize("page", sorted((CHECKOUT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_command_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"(?:[`#$] |`|sudo |<\()resolverd ([a-z]+(?:-[a-z]+)*)", text))
    assert named <= set(cli.commands), page
    for command, flag in re.findall(r"resolverd ([a-z-]+)[^`\n|]*? (--[a-z-]+)", text):
        if command in cli.commands:
            help_text = CliRunner().invoke(cli, [command, "--help"]).output
            assert flag in help_text, (page, command, flag)


def test_settings_in_the_guide_from_telepresence_exist() -> None:
    page = (CHECKOUT / "docs" / "migrating-from-telepresence.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `([a-z]+\.[a-z-]+)` \|", page, re.MULTILINE)
    assert len(rows) > 8
    assert set(rows) <= set(KNOWN)


def test_the_example_job_is_one_and_its_command_is_the_images() -> None:
    (job,) = yaml.safe_load_all((EXAMPLES / "ci-job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    (kubeconfig,) = [entry["value"] for entry in container["env"] if entry["name"] == "KUBECONFIG"]
    assert kubeconfig.startswith(mounted["kubeconfig"])
    assert "command" not in container, "the image's entry point puts everything back"


def test_the_recipe_copies_what_is_there() -> None:
    text = (EXAMPLES / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--)(\S+)", text, re.MULTILINE):
        assert (CHECKOUT / source).exists(), source


@pytest.mark.skipif(not shutil.which("sh"), reason="no sh")
@pytest.mark.parametrize(("up", "code"), [(0, 7), (5, 5)])
def test_the_entry_point_puts_everything_back_and_keeps_the_exit_code(tmp_path: Path, up: int, code: int) -> None:
    log = tmp_path / "log"
    program = tmp_path / "resolverd"
    program.write_text(f'#!/bin/sh\necho "$1" >> {log}\n[ "$1" != up ] || exit {up}\n')
    program.chmod(0o755)
    command = ["sh", str(EXAMPLES / "entrypoint.sh"), "sh", "-c", "exit 7"]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert done.returncode == code
    assert log.read_text().split() == (["up", "down"] if up == 0 else ["up"])


def test_the_picture_shows_steps_the_demo_has() -> None:
    namespace = runpy.run_path(str(CHECKOUT / "scripts" / "picture.py"), run_name="picture")
    commands = [command for command, _ in namespace["PICKED"]]
    assert set(commands) <= {step.command for step in (*TOUR, *AFTERWARDS)}
    printed = "".join(f"\n# Why & <{n}>\n$ {command}\n✓ one is up\n\n" for n, command in enumerate(commands))
    lines = namespace["drawn"](printed)
    assert [line.text for line in lines if line.kind == "command"] == [f"$ {command}" for command in commands]
    assert [line.text for line in lines[:3]] == ["# Why & <0>", "$ resolverd up", "✓ one is up"]
    picture = ET.fromstring(namespace["svg"](lines))  # noqa: S314  # our own
    assert "# Why & <0>" in "".join(picture.itertext())


def test_the_picture_is_of_the_demo_as_it_is() -> None:
    picture = ET.fromstring((CHECKOUT / "docs" / "demo.svg").read_text())  # noqa: S314  # our own
    text = "".join(picture.itertext())
    namespace = runpy.run_path(str(CHECKOUT / "scripts" / "picture.py"), run_name="picture")
    for command, _ in namespace["PICKED"]:
        assert f"$ {command}" in text, "make picture"
