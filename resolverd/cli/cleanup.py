"""``resolverd cleanup``: undo what a killed daemon left on this host; ``resolverd down`` does the same on its way."""

from __future__ import annotations

from pathlib import Path

import click

from resolverd import control_client, state
from resolverd.errors import HostError


def clean_up(state_dir: str) -> int:
    """Undo what can be found, in a process that needs no daemon; 0, also when there was nothing.

    Raises HostError while a daemon runs.
    """
    from resolverd.cli.background import chosen_folder

    folder = chosen_folder(state_dir)
    if control_client.is_running(folder):
        raise HostError("cleanup", "the daemon runs, and needs what it has done", "stop it with resolverd down")
    done = undo(folder)
    for what in done:
        click.echo(what)
    if not done:
        click.echo("nothing of resolverd's was left")
    return 0


def undo(folder: Path) -> list[str]:
    """Put back what a killed daemon of the state directory ``folder`` changed, and remove what it left; in words.

    Raises HostError when a daemon is running or being started there.
    """
    from resolverd_platform.detect import undo_leftovers

    if not folder.is_dir():
        return undo_leftovers(folder)
    left = [name for name in (state.SOCKET, state.LOG) if (folder / name).exists()]
    with state.starting(folder), state.StateDirectory(folder):
        done = undo_leftovers(folder)
    state.forget(folder)
    return [*done, *([f"{', '.join(left)} removed from {folder}"] if left else [])]
