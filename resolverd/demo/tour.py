"""The demo: a stage, the embedded cluster, the daemon, and a tour of what it does, with real commands.

Without a terminal the whole tour is shown, ``resolverd down`` and what is left included. With one a short tour ends
in a shell inside the stage. Nothing of it reaches the host.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from resolverd.errors import ExitCode, ResolverdError

from . import services, stage
from .itinerary import AFTERWARDS, CONFIGURATION, TOUR
from .steps import Guide

_KUBECONFIG = services.FOLDER / "kubeconfig"
_CONFIGURATION = services.FOLDER / "config" / "resolverd" / "config.yaml"
_INVITATION = """
This is a shell inside. Nothing you do here changes your machine; `exit` takes it all away. Try:
  resolverd status                       what is in force, what is withheld, and why
  curl http://web/                       a single label, as in a pod of namespace shop
  dig +short SRV _pg._tcp.db.shop.svc.cluster.local
  getent hosts api.payments              as every program resolves names
  kubectl get services -A                if you have kubectl: it talks to the embedded cluster
  kill -9 $(cat /run/resolverd/lock)     then see what is left: ip link, resolvectl
"""


def run_demo(objects: Path | None = None, shell: bool | None = None) -> int:
    """Show everything; 0 when all of it was as it should be. ResolverdError when there can be no stage.

    objects: a folder of YAML files for the cluster. shell: end in a shell; None: when there is a terminal.
    """
    stage.check()
    if shell is None:
        shell = sys.stdin.isatty() and sys.stdout.isatty()
    command = [sys.executable, "-P", "-m", "resolverd.demo.tour", "--inside", "--shell" if shell else "--no-shell"]
    if objects is not None:
        command += ["--objects", str(objects.absolute())]
    print("A stage: private namespaces, a system bus, systemd-resolved, a stand-in for the internet ...", flush=True)
    return stage.run(command, with_internet=True)


def _run_inside(objects: Path | None, shell: bool) -> int:
    """The demo once it is on the stage."""
    print("The embedded cluster ...", flush=True)
    try:
        server = _start_cluster(objects)
    except services.ServiceError as error:
        if not error.said.startswith("resolverd: "):
            raise
        print(error.said, file=sys.stderr)  # it has said so itself, in the form of the contract
        return error.exit_code
    environment = _environment(server)
    guide = Guide(sys.stdout, environment)
    for step in TOUR:
        if step.short or not shell:
            guide.show(step)
    if not shell:
        for step in AFTERWARDS:
            guide.show(step)
        print("\nAll of it was as expected, and this machine has not been touched.")
        return ExitCode.OK
    print(_INVITATION, flush=True)
    subprocess.run(["bash", "--rcfile", str(_shell_settings()), "-i"], env=environment, check=False)
    return ExitCode.OK


def _start_cluster(objects: Path | None) -> str:
    """Start the embedded cluster; the URL of its API."""
    command = [sys.executable, "-P", "-m", "resolverd.demo.cluster", "--kubeconfig", str(_KUBECONFIG)]
    if objects is not None:
        command += ["--objects", str(objects)]
    log = services.FOLDER / "cluster.log"
    services.start("cluster", command, {}, lambda: log.read_text().startswith("http"))
    return log.read_text().splitlines()[0]


def _environment(server: str) -> dict[str, str]:
    """What the commands of the tour, and those typed in the shell, find: our programs, our files, no host's habits."""
    _CONFIGURATION.parent.mkdir(parents=True)
    _CONFIGURATION.write_text(CONFIGURATION)
    (services.FOLDER / ".curlrc").write_text("silent\nshow-error\nmax-time = 20\n")
    program = stage.PROGRAMS / "resolverd"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m resolverd "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUDO_", "RESOLVERD_DEMO_"))}
    return kept | {
        "KUBECONFIG": str(_KUBECONFIG),
        "API": server,
        "CONFIG": str(_CONFIGURATION),
        "XDG_CONFIG_HOME": str(_CONFIGURATION.parents[1]),
        "CURL_HOME": str(services.FOLDER),
        "SYSTEMD_PAGER": "cat",
        "PYTHONWARNINGS": "ignore",
    }


def _shell_settings() -> Path:
    """What bash reads: the user's own settings, a prompt that says where one is, and no history file on the host."""
    own = Path.home() / ".bashrc"
    settings = services.FOLDER / "bashrc"
    path = shlex.quote(f"{stage.PROGRAMS}:")
    settings.write_text(
        f"[ -r {shlex.quote(str(own))} ] && . {shlex.quote(str(own))}\n"
        f"HISTFILE={os.environ['HISTFILE']}\nunset PROMPT_COMMAND\nPATH={path}$PATH\nPS1='(demo) \\w \\$ '\n"
    )
    return settings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m resolverd.demo.tour", description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=Path, metavar="DIR", help="YAML files with objects for the cluster")
    parser.add_argument("--shell", action=argparse.BooleanOptionalAction, help="default: when there is a terminal")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.inside:
            return _run_inside(options.objects, options.shell)
        return run_demo(options.objects, options.shell)
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
