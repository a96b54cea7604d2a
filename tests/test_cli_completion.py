"""Completions, in a real shell; and what is printed when a command is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import resolverd, shell


def on_path(folder: Path) -> str:
    """A folder with the command ``resolverd`` in it."""
    program = folder / "resolverd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m resolverd "$@"\n')
    program.chmod(0o755)
    return str(folder)


async def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    script = tmp_path / "try"
    script.write_text(
        f"PATH={on_path(tmp_path)}:$PATH\nset -e\nsource <(resolverd completion bash)\n"
        'try() { COMPREPLY=(); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _resolverd_completion resolverd\n'
        'echo "${COMPREPLY[*]}"; }\n'
        "complete -p resolverd\n"
        "try resolverd uninst\n"
        "try resolverd run --backend over\n"
        "try resolverd config sch\n"
    )
    done = await shell(f"bash --norc {script}")
    assert done.err == ""
    registered, *found = done.out.splitlines()
    assert "_resolverd_completion resolverd" in registered
    assert found == ["uninstall-service", "override", "schema"]


@pytest.mark.parametrize(("name", "word"), [("zsh", "#compdef resolverd"), ("fish", "complete --no-files")])
async def test_the_other_shells_have_theirs(name: str, word: str) -> None:
    done = await resolverd("completion", name)
    assert (done.code, done.err) == (0, "")
    assert word in done.out


@pytest.mark.parametrize("words", [(), ("config",)])
async def test_a_command_that_is_missing_gets_the_help_as_it_is(words: tuple[str, ...]) -> None:
    done = await resolverd(*words)
    help_text = (await resolverd(*words, "--help")).out
    assert (done.code, done.out) == (2, "")
    assert done.err == help_text
    assert len(done.err.splitlines()) > 8
