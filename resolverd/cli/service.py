"""``resolverd install-service`` and ``uninstall-service``."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from resolverd.cluster.kubeconfig import invoker
from resolverd.errors import HostError, one_line
from resolverd.state import PYTHON
from resolverd_platform import service


def install(chosen: service.Service, root: Path, *, dry: bool, now: bool) -> int:
    """Write the files, have the service manager read them, start the service if ``now``; 0 then. ResolverdError."""
    _check_account(chosen, root)
    if changeable := _changeable_by_others():
        click.echo(f"warning: not only root can change {changeable}, which will run as root", err=True)
    steps = service.install_plan(chosen, root)
    commands = service.commands_after(root, changed=any(step.needed for step in steps), start=now)
    _do(steps, commands, dry=dry)
    if not (dry or now):
        click.echo(f"start it: sudo {service.START}")
    return 0


def uninstall(root: Path, *, dry: bool) -> int:
    """Stop the service and remove the files; 0, also when there was nothing. ResolverdError."""
    steps = service.removal_plan(root)
    if not steps:
        click.echo("nothing of resolverd's is installed")
        return 0
    _do((), service.commands_before_removal(root), dry=dry)
    _do(steps, service.commands_after(root, changed=True), dry=dry)
    return 0


def service_for(options: Sequence[str], user: str, group: str) -> service.Service:
    """The service that runs this very installation, for ``user`` or else whoever called sudo."""
    who = invoker()
    return service.Service((*PYTHON, "resolverd"), tuple(options), user or (who.name if who else "root"), group)


def _changeable_by_others() -> str:
    """The first of our own programs that somebody besides root may replace; empty when there is none."""
    for file in (Path(sys.executable).absolute(), Path(service.__file__), Path(__file__)):
        for path in (file, *file.parents):
            facts = path.stat()
            if facts.st_uid != 0 or (facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX):
                return str(path)
    return ""


def _check_account(chosen: service.Service, root: Path) -> None:
    """Raise when a user or group does not exist here: the unit would fail later, and say less."""
    if root != Path("/"):
        return
    import grp
    import pwd

    try:
        pwd.getpwnam(chosen.user)
        grp.getgrnam(chosen.group or "root")
    except KeyError as error:
        raise HostError("install-service", str(error.args[0]), "name those of this machine") from None


def _do(steps: Sequence[service.Step], commands: Sequence[Sequence[str]], *, dry: bool) -> None:
    for step in steps:
        if not dry:
            service.carry_out(step)
        click.echo(f"would {step}" if dry and step.needed else str(step))
    for command in commands:
        click.echo(("would run " if dry else "run ") + " ".join(command))
        if dry:
            continue
        finished = subprocess.run(list(command), capture_output=True, text=True, check=False)
        if finished.returncode:
            last = one_line((finished.stderr.strip() or f"exit code {finished.returncode}").splitlines()[-1])
            raise HostError(" ".join(command), last, "see journalctl -u resolverd")
