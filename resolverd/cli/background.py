"""``resolverd up`` and ``resolverd down``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from resolverd import config, control_client, state
from resolverd.cli import cleanup, trial
from resolverd.cli.progress import Steps
from resolverd.errors import ExitCode, HostError, NotRunningError, ResolverdError, one_line

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
    settings = config.load(file, flags).settings
    folder = state.folder(settings.daemon.state_dir)
    with Steps() as steps:
        if control_client.is_running(folder):
            ignored = ", and goes on with the options it was started with" if set(flags) - {"daemon.state_dir"} else ""
            steps.done(f"the daemon runs already{ignored}")
            _prove(folder, steps, time.monotonic() + longest, lambda: None)
            return 0
        signal.signal(signal.SIGTERM, _interrupted)
        signal.signal(signal.SIGHUP, _interrupted)
        with _daemon(folder, file, flags) as process:
            steps.done(f"the daemon is started, its log is {folder / state.LOG}")
            _prove(folder, steps, time.monotonic() + longest, lambda: _check_alive(process, folder))
    click.echo("resolverd is up; see resolverd status, and resolverd down")
    return 0


def _interrupted(number: int, _: object) -> None:
    """Leave by way of every ``finally``: the daemon is not up, so nothing of it may stay."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _daemon(folder: Path, file: str, flags: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of its own session, which stays when the block succeeds and is stopped when it does not."""
    made = not folder.exists()
    with contextlib.ExitStack() as undo:
        undo.callback(_tidy, folder, made)
        with state.starting(folder), os.fdopen(state.open_log(folder), "wb") as output:
            process = subprocess.Popen(
                [*state.PYTHON, "resolverd", "run", *_as_flags(file, flags)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            undo.callback(_end, process)
            yield process
        undo.pop_all()


def _tidy(folder: Path, made: bool) -> None:
    """Remove what a daemon that did not come up has left, its log included, and the folder if it was not there."""
    with contextlib.suppress(ResolverdError):  # somebody else's daemon is there by now
        state.forget(folder, with_folder=made)


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
        flag = config.flag_of(setting.replace("_", "-"), value)
        if setting == "tunnel.enabled":
            found.append(flag)
        else:
            found += [part for item in (value if isinstance(value, list) else [value]) for part in (flag, str(item))]
    return found


def _prove(folder: Path, steps: Steps, deadline: float, check: Callable[[], None]) -> None:
    """Every step from the first list to a first connection; raises _StartError at the one that fails."""

    def alive() -> None:
        check()
        steps.tick()

    document = _wait_healthy(folder, steps, deadline, alive)
    cluster, host = document["cluster"], document["host"]
    counts = ", ".join(f"{cluster[kind]} {kind}" for kind in ("namespaces", "services", "endpoints"))
    steps.done(f"cluster {one_line(cluster['context'])}: {counts}")
    _check_taken(host, cluster["domain"])
    if host["domains"] or host["search"]:
        to = host["link"] or ", ".join(document["dns"]["listen"])
        steps.done(f"{host['backend']} sends {len(host['domains'])} domains to {to}")
    else:
        steps.done(f"DNS on {', '.join(document['dns']['listen'])}; the host is not told")
    if not document["probes"]:
        steps.done("the cluster has no service yet, so there is nothing to try")
        return
    own = document["dns"]["listen"][0]
    server = None if host["domains"] or host["search"] else own
    attempt = trial.Trial(server, deadline, alive, lambda: _remedy(folder), own)
    by = "the daemon's DNS server" if server else "the host's resolver"
    first = one_line(document["probes"][0]["name"])
    steps.waiting(f"resolving {first}")
    steps.done(f"{first} is {attempt.resolve(document['probes'][0]['name'])}, says {by}")
    if document["tunnel"]["state"] != "off" and document["probes"][0]["port"]:
        steps.waiting("connecting")
        steps.done(f"{attempt.connect_to_one_of(document['probes'])} accepts connections")


def _remedy(folder: Path) -> str:
    """What to do when no connection can be made."""
    with contextlib.suppress(NotRunningError, control_client.SilentError):
        state = str(control_client.request(folder, "GET", "/status")["tunnel"]["state"])
        if state != "ready":
            return one_line(state)
    return "may you port-forward? kubectl auth can-i create pods --subresource=portforward"


def _check_taken(host: dict[str, Any], domain: str) -> None:
    """Raise when the host is told, but not of the cluster domain: then the names that prove it works never resolve."""
    taken = {f"~{domain}", f"~svc.{domain}"} & set(host["domains"])
    why = next((item for item in host["withheld"] if item["kind"] == "cluster-domain"), None)
    if why is not None and host["link"] and not taken:
        fix = f"end what routes it, or take it all the same: dns.include-suffixes: [.{domain}]"
        raise _StartError(f"cluster domain {domain}", f"withheld, {one_line(why['detail'])} ({why['reason']})", fix)


def _wait_healthy(folder: Path, steps: Steps, deadline: float, alive: Callable[[], None]) -> dict[str, Any]:
    failing, code = "the daemon to answer", ExitCode.DEGRADED
    steps.waiting(f"waiting for {failing}")
    while time.monotonic() < deadline:
        alive()
        with contextlib.suppress(NotRunningError, control_client.SilentError):
            document = control_client.request(folder, "GET", "/status")
            if document["state"] == "healthy":
                return document
            check = next(check for check in document["checks"] if not check["ok"])
            failing = f"{check['id']}: {check['detail']}" + (f" ({check['fix']})" if check["fix"] else "")
            code = ExitCode.CLUSTER if check["id"] == "cluster" else ExitCode.DEGRADED
            steps.waiting(failing)
        time.sleep(POLL)
    raise _StartError("up", f"not ready in time, still waiting for {failing}", "more time: --wait 120", code)


def _check_alive(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise what the daemon said last, with its own exit code, when it has ended."""
    code = process.poll()
    if code is None:
        return
    try:
        lines = (folder / state.LOG).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    if code == 0 or not lines:
        raise _StartError("up", "the daemon was stopped meanwhile", "run resolverd up again")
    said = next((line for line in reversed(lines) if line.startswith("resolverd: ")), "")
    if not said:
        raise _StartError("daemon", f"ended with exit code {code}: {' | '.join(lines[-3:])}")
    what, _, why = said.removeprefix("resolverd: ").partition(": ")
    known = code in set(ExitCode) and code != ExitCode.OK
    raise _StartError(what, why, code=ExitCode(code) if known else ExitCode.DEGRADED)


def stop(state_dir: str) -> int:
    """Stop the daemon, or one that is just starting, or remove what a killed one left; 0 in each case."""
    folder = chosen_folder(state_dir)
    stopped = False
    deadline = time.monotonic() + STOP_DEADLINE
    while True:
        if not stopped:
            with contextlib.suppress(NotRunningError):
                control_client.request(folder, "POST", "/stop")
                stopped = True
        try:
            left = _put_back(folder, stopped)
            break
        except HostError as error:
            if time.monotonic() > deadline:
                raise HostError("down", "the daemon does not end", f"see {folder / state.LOG}, then kill it") from error
            time.sleep(POLL)
    if stopped:
        click.echo("resolverd is down; the host is as it was")
    else:
        click.echo(f"resolverd was not running; {'; '.join(left)}" if left else "resolverd is not running")
    return 0


def _put_back(folder: Path, stopped: bool) -> list[str]:
    """Undo what is left; a service does so by itself, which takes its time. HostError until then."""
    if not stopped or os.access(folder, os.W_OK):
        return cleanup.undo(folder)
    if control_client.is_running(folder):
        raise HostError("down", "the daemon has not ended yet")
    return []


def chosen_folder(state_dir: str) -> Path:
    """The state directory: the flag's, else the config file's, else the usual one.

    Mistakes elsewhere in the file must not keep anybody from finding the daemon, or from stopping it.
    """
    return state.of_daemon(state_dir or config.read("", {})[0].settings.daemon.state_dir)
