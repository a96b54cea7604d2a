"""Completions, in a real shell; and what is printed when a command is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import resolverd, shell
from terminal import Terminal


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


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
async def test_fish_completes_commands_options_and_values(tmp_path: Path) -> None:
    folder = tmp_path / "fish" / "completions"
    folder.mkdir(parents=True)
    script = (await resolverd("completion", "fish")).out
    (folder / "resolverd.fish").write_text(script)
    asked = ("uninst", "run --backend over", "config sch")
    lines = [f'complete -C "resolverd {words}"' for words in asked]
    (tmp_path / "try").write_text(f"set -x PATH {on_path(tmp_path)} $PATH\n" + "\n".join(lines) + "\n")
    done = await shell(f"XDG_CONFIG_HOME={tmp_path} HOME={tmp_path} fish {tmp_path / 'try'}")
    assert done.err == ""
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["uninstall-service", "override", "schema"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
@pytest.mark.parametrize(
    ("typed", "whole"),
    [("uninst", "uninstall-service"), ("run --backend over", "override"), ("config sch", "schema")],
)
async def test_zsh_completes_when_tab_is_pressed(tmp_path: Path, typed: str, whole: str) -> None:
    (tmp_path / "_resolverd").write_text((await resolverd("completion", "zsh")).out)
    path = f"{on_path(tmp_path)}:{os.environ['PATH']}"
    terminal = Terminal(["/usr/bin/env", "zsh", "-f", "-i"], PATH=path, HOME=str(tmp_path), TERM="dumb", PS1="ready> ")
    terminal.type(f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; print loa''ded\r")
    terminal.wait_for("loaded")
    terminal.wait_for("ready> ")
    terminal.type(f"resolverd {typed}\t")
    terminal.wait_for(whole)
    terminal.type("\x15exit\r")
    assert terminal.end() == 0


@pytest.mark.parametrize("words", [(), ("config",)])
async def test_a_command_that_is_missing_gets_the_help_as_it_is(words: tuple[str, ...]) -> None:
    done = await resolverd(*words)
    help_text = (await resolverd(*words, "--help")).out
    assert (done.code, done.out) == (2, "")
    assert done.err == help_text
    assert len(done.err.splitlines()) > 8
