"""The tour checks what it shows."""

from __future__ import annotations

import io
import os
import re

import pytest

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


def test_a_step_that_needs_a_moment_is_shown_once(guide: Guide, tmp_path: object) -> None:
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
