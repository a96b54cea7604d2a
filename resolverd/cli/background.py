"""``resolverd up`` and ``resolverd down``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from resolverd import config, control_client, state
from resolverd.cli import trial
from resolverd.cli.progress import Steps
from resolverd.errors import ExitCode, HostError, NoPermissionError, NotRunningError, ResolverdError, one_line

POLL = 0.05
"""Seconds between two looks at the daemon."""
STOP_DEADLINE = 20.0
"""Seconds a daemon may take to put the host back."""


class _StartError(ResolverdError):
    """The daemon ended, or a step failed; ``code`` is the daemon's own where it had one."""

    def __init__(self, what: str, why: str, fix: str = "", code: ExitCode = ExitCode.DEGRADED) -> None:
        super().__init__(what, why, fix)
        self.code = code


def start(file: str, flags: dict[str, Any], longest: float) -> int:
    """Start the daemon and prove that it works; 0 then. Raises ResolverdError; then nothing of ours is left."""
    settings = config.load(file, flags)
    folder = state.folder(settings.daemon.state_dir)
    steps = Steps()
    if control_client.is_running(folder):
        steps.done("the daemon runs already")
        _prove(folder, steps, time.monotonic() + longest, lambda: None)
        return 0
    with _daemon(folder, file, flags) as process:
        steps.done(f"the daemon is started, its log is {folder / state.LOG}")
        _prove(folder, steps, time.monotonic() + longest, lambda: _check_alive(process, folder))
    click.echo("resolverd is up; see resolverd status, and resolverd down")
    return 0


@contextlib.contextmanager
def _daemon(folder: Path, file: str, flags: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of its own session, which stays when the block succeeds and is stopped when it does not."""
    made = not folder.exists()
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        log = os.open(folder / state.LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise NoPermissionError(
            f"state directory {folder}", "you may not write there", "run as root, or name one with --state-dir"
        ) from error
    with contextlib.ExitStack() as undo:
        if made:
            undo.callback(_remove_empty, folder)
        undo.callback((folder / state.LOG).unlink, missing_ok=True)
        with os.fdopen(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "resolverd", "run", *_as_flags(file, flags)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        undo.callback(_end, process)
        yield process
        undo.pop_all()


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: somebody else's files
        folder.rmdir()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _as_flags(file: str, flags: dict[str, Any]) -> list[str]:
    """The flags of ``resolverd run`` that say the same."""
    found = ["--config", str(Path(file).absolute())] if file else []
    for setting, value in flags.items():
        name = setting.partition(".")[2].replace("_", "-")
        if setting == "tunnel.enabled":
            found.append("--tunnel" if value else "--no-tunnel")
        elif setting == "cluster.namespaces":
            found += [part for item in value for part in ("--namespace", item)]
        else:
            found += [f"--{name}", str(value)]
    return found


def _prove(folder: Path, steps: Steps, deadline: float, alive: Callable[[], None]) -> None:
    """Every step from the first list to a first connection; raises _StartError at the one that fails."""
    document = _wait_healthy(folder, steps, deadline, alive)
    cluster, host = document["cluster"], document["host"]
    counts = ", ".join(f"{cluster[kind]} {kind}" for kind in ("namespaces", "services", "endpoints"))
    steps.done(f"cluster {one_line(cluster['context'])}: {counts}")
    if host["domains"] or host["search"]:
        steps.done(f"{host['backend']} sends {len(host['domains'])} domains to {host['link']}")
    else:
        steps.done(f"DNS on {', '.join(document['dns']['listen'])}; the host is not told")
    probe = document["probe"]
    if probe is None:
        steps.done("the cluster has no service yet, so there is nothing to try")
        return
    through_host = bool(host["domains"])
    steps.waiting(f"resolving {probe['name']}")
    address = trial.resolve(probe["name"], None if through_host else document["dns"]["listen"][0], deadline)
    by = "the host's resolver" if through_host else "the daemon's DNS server"
    steps.done(f"{probe['name']} is {address}, says {by}")
    if probe["port"] and document["tunnel"]["state"] != "off":
        steps.waiting(f"connecting to {probe['name']}:{probe['port']}")
        trial.connect(address, probe["port"], deadline)
        steps.done(f"{probe['name']}:{probe['port']} accepts connections")


def _wait_healthy(folder: Path, steps: Steps, deadline: float, alive: Callable[[], None]) -> dict[str, Any]:
    failing = "the daemon to answer"
    while time.monotonic() < deadline:
        alive()
        with contextlib.suppress(NotRunningError):
            document = control_client.request(folder, "GET", "/status")
            if document["state"] == "healthy":
                return document
            check = next(check for check in document["checks"] if not check["ok"])
            failing = f"{check['id']}: {check['detail']}" + (f" ({check['fix']})" if check["fix"] else "")
        steps.waiting(failing)
        time.sleep(POLL)
    steps.failed(failing)
    raise _StartError("up", f"not ready in time, still waiting for {failing}", "more time: --wait 120")


def _check_alive(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise what the daemon said last, with its own exit code, when it has ended."""
    code = process.poll()
    if code is None:
        return
    lines = (folder / state.LOG).read_text(errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith("resolverd: ")), "")
    if not said:
        raise _StartError("daemon", f"ended with exit code {code}: {' | '.join(lines[-3:])}")
    what, _, why = said.removeprefix("resolverd: ").partition(": ")
    known = code in set(ExitCode) and code != ExitCode.OK
    raise _StartError(what, why, code=ExitCode(code) if known else ExitCode.DEGRADED)


def stop(state_dir: str) -> int:
    """Stop the daemon, or remove what a killed one left; 0 either way."""
    folder = state.folder(state_dir)
    try:
        control_client.request(folder, "POST", "/stop")
    except NotRunningError:
        left = state.forget(folder)
        click.echo(f"resolverd was not running; removed {', '.join(left)}" if left else "resolverd is not running")
        return 0
    deadline = time.monotonic() + STOP_DEADLINE
    while True:
        try:
            state.forget(folder)
            break
        except HostError as error:
            if time.monotonic() > deadline:
                raise HostError("down", "the daemon does not end", f"see {folder / state.LOG}, then kill it") from error
            time.sleep(POLL)
    click.echo("resolverd is down; the host is as it was")
    return 0
