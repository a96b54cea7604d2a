"""The tour checks what it shows."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT
from host_survey import killed_after, survey
from terminal import Terminal

from resolverd.demo.itinerary import AFTERWARDS, TOUR
from resolverd.demo.steps import Guide, Step
from resolverd.errors import ResolverdError


@pytest.fixture
def guide() -> Guide:
    return Guide(io.StringIO(), os.environ)


def shown(guide: Guide) -> str:
    assert isinstance(guide.out, io.StringIO)
    return guide.out.getvalue()


def test_a_step_is_shown_as_on_a_terminal(guide: Guide) -> None:
    guide.show(Step("Say it", "echo one; echo two >&2", expect=("^one$", "^two$")))
    assert shown(guide) == "\n# Say it\n$ echo one; echo two >&2\none\ntwo\n"


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (Step("", "echo one", expect=("^two$",)), "did not print ^two$"),
        (Step("", "echo one", never=("n",)), "printed n"),
        (Step("", "exit 3"), "exit code 3 instead of 0"),
        (Step("", "true", code=1), "exit code 0 instead of 1"),
        (Step("", "echo one; exit 3", expect=("one",), within=0.3), "exit code 3 instead of 0"),
    ],
)
def test_a_step_that_is_not_as_expected_is_named(guide: Guide, step: Step, complaint: str) -> None:
    with pytest.raises(ResolverdError, match=re.escape(complaint)) as error:
        guide.show(step)
    assert f"`{step.command}`" in str(error.value)
    assert "one" in shown(guide) or "one" not in step.command


def test_what_a_step_finds_is_used_by_later_ones(guide: Guide) -> None:
    guide.show(Step("", "echo address 10.0.0.7", expect=(r"(?P<address>10\.\S+)",)))
    guide.show(Step("", "echo it was {address} %{other}", expect=(r"it was 10\.0\.0\.7 %\{other\}",)))
    assert "$ echo it was 10.0.0.7 %{other}\n" in shown(guide)


def test_a_step_that_needs_a_moment_is_shown_once(guide: Guide, tmp_path: Path) -> None:
    command = f"echo x >> {tmp_path}/tries; wc -l < {tmp_path}/tries"
    guide.show(Step("", command, expect=("^3$",), within=30))
    assert shown(guide) == f"$ {command}\n3\n"


def test_the_itinerary_can_be_followed() -> None:
    steps = (*TOUR, *AFTERWARDS)
    remembered: set[str] = set()
    for step in steps:
        for pattern in (*step.expect, *step.never):
            remembered |= set(re.compile(pattern).groupindex)
    needed = {name for step in steps for name in re.findall(r"(?<!%)\{(\w+)\}", step.command)}
    assert needed <= remembered
    assert len({step.command for step in steps}) >= len(steps) - 2, "the same again shows nothing new"
    assert [step.command for step in TOUR if step.short][:2] == ["resolverd up", "resolvectl status resolverd0"]


DEMO = [sys.executable, "-m", "resolverd", "demo"]
OWN_OBJECTS = """\
{apiVersion: v1, kind: Namespace, metadata: {name: mine}}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: mine}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-7, namespace: mine, labels: {app: api}}
spec: {containers: [{name: api, ports: [{containerPort: 8080}]}]}
"""


@pytest.mark.staged
def test_the_whole_tour_is_as_expected_and_leaves_nothing() -> None:
    before = survey()
    done = subprocess.run([*DEMO, "--no-shell"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "All of it was as expected" in done.stdout
    assert survey() == before


@pytest.mark.staged
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of forkpty.*:DeprecationWarning")
def test_on_a_terminal_it_ends_in_a_shell_with_the_users_own_objects(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN_OBJECTS)
    terminal = Terminal([*DEMO, "--objects", str(tmp_path)])
    terminal.wait_for("This is a shell inside")
    terminal.wait_for("(demo)")
    terminal.type("curl http://api.mine/\n")
    terminal.wait_for("pod api-7 in namespace mine")
    terminal.type("false; exit\n")
    assert terminal.end() == 0


@pytest.mark.staged
@pytest.mark.parametrize("moment", [0.6, 1.0, 1.4, 1.8, 2.4])
def test_kill_9_of_the_demo_at_any_moment_leaves_nothing(moment: float) -> None:
    before = survey()
    assert killed_after([*DEMO, "--no-shell"], moment) == []
    assert survey() == before


@pytest.mark.staged
def test_objects_that_cannot_be_used_are_bad_usage_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: [")
    command = [*DEMO, "--no-shell", "--objects", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"resolverd: .*bad\.yaml.*\n", done.stderr)
