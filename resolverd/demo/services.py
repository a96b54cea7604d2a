"""The system bus and systemd-resolved inside a stage: real programs, with their pid files and logs in /run/stage.

``python -m resolverd.demo.services start|stop|restart`` does that to systemd-resolved, inside a stage only.
``/run/stage/resolved.pid`` is there while it should run; to see it crash: ``kill -9 $(cat /run/stage/resolved.pid)``.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from resolverd.errors import HostError, ResolverdError, UsageError

from .resolved import Resolved, find

FOLDER = Path("/run/stage")
_BUS_SOCKET = Path("/run/dbus/system_bus_socket")
_RESOLVED_PID = FOLDER / "resolved.pid"
_DEADLINE = 20.0
"""Seconds a service may take to start or to stop; on an idle machine both take a fraction of one."""

# Everybody may do everything: who is allowed what is polkit's business on a real host, and there is no polkit here.
# Without eavesdrop="true" replies are not delivered and every call hangs.
_BUS_CONFIGURATION = f"""\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={_BUS_SOCKET}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
"""


class ServiceError(HostError):
    """A service did not come up."""

    def __init__(self, name: str, said: str, status: int) -> None:
        super().__init__(name, f"did not start inside the stage: {said}")
        self.said = said
        self.exit_code = os.waitstatus_to_exitcode(status)


def start(name: str, command: Sequence[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> int:
    """Start a service and wait until ``ready``; its process id. ServiceError, with its last words, when it is not.

    It gets a session of its own, so that Ctrl-C does not reach it, and logs to ``/run/stage/NAME.log``.
    """
    log = os.open(FOLDER / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    redirections = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    try:
        pid = os.posix_spawnp(
            command[0], list(command), os.environ | environment, file_actions=redirections, setsid=True, setsigmask=()
        )
    finally:
        os.close(log)
        os.close(nothing)
    deadline = time.monotonic() + _DEADLINE
    while not ready():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            said = (FOLDER / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise ServiceError(name, said[-1] if said else "it said nothing", status)
        time.sleep(0.01)
    return pid


def start_bus() -> None:
    """Start dbus-daemon as the system bus. HostError when it does not come up."""
    _BUS_SOCKET.parent.mkdir(exist_ok=True)
    configuration = FOLDER / "bus.conf"
    configuration.write_text(_BUS_CONFIGURATION)
    start("dbus", ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"], {}, _BUS_SOCKET.exists)


def start_resolved(programs: Resolved) -> None:
    """Start systemd-resolved and wait until it answers on the bus. HostError when it does not."""
    if _RESOLVED_PID.exists():
        raise UsageError("systemd-resolved", "runs already in this stage")
    state = Path("/run/systemd/resolve")
    state.mkdir(parents=True, exist_ok=True)
    owner = pwd.getpwnam("systemd-resolve")
    os.chown(state, owner.pw_uid, owner.pw_gid)
    environment = {"SYSTEMD_LOG_TARGET": "console", **programs.environment()}
    pid = start("resolved", programs.command(programs.daemon), environment, _resolved_answers)
    _RESOLVED_PID.write_text(f"{pid}\n")


def stop_resolved() -> None:
    """Stop systemd-resolved and wait until it is gone; nothing happens when it does not run."""
    try:
        pid = int(_RESOLVED_PID.read_text())
        descriptor = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError):
        _RESOLVED_PID.unlink(missing_ok=True)
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], _DEADLINE)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _RESOLVED_PID.unlink()


def _resolved_answers() -> bool:
    command = ["dbus-send", "--system", "--print-reply", "--reply-timeout=1000", "--dest=org.freedesktop.resolve1"]
    peer = ["/org/freedesktop/resolve1", "org.freedesktop.DBus.Peer.Ping"]
    return subprocess.run(command + peer, capture_output=True, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    if arguments not in (["start"], ["stop"], ["restart"]) or "RESOLVERD_STAGE" not in os.environ:
        print("usage, inside a stage: python -m resolverd.demo.services start|stop|restart", file=sys.stderr)
        return 2
    try:
        if arguments != ["start"]:
            stop_resolved()
        if arguments != ["stop"]:
            start_resolved(find())
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
