"""The stage: a command inside private namespaces, with a system bus and a systemd-resolved of its own.

``python -m resolverd.demo.stage [--internet] -- COMMAND...`` runs COMMAND, as root, where nothing it does can reach the
host: private mounts, network, processes, IPC and host name; its own copy of /etc, so that /etc/resolv.conf is
systemd-resolved's; an empty /run; temporary files in /run/tmp (``TMPDIR``); loopback and nothing else on the network,
or with ``--internet`` the stand-in of :mod:`resolverd.demo.internet`. Everything is gone when COMMAND ends, and when
the calling process is killed, kill -9 included. The exit code is COMMAND's. ``RESOLVERD_STAGE=1`` is set inside.
Stages nest; the inner one sees the outer one's temporary files, and makes its own in /run/tmp-inner.
"""

from __future__ import annotations

import argparse
import os
import pwd
import select
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from resolverd.errors import HostError, NoPermissionError, ResolverdError

from . import internet, keeper, namespaces, services
from .programs import output_of
from .resolved import Resolved, find

_TEMPORARY = Path("/run/tmp")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private one is mounted over it
PROGRAMS = services.FOLDER / "bin"
_NEEDED = {"dbus-daemon": "dbus-daemon", "dbus-send": "dbus-bin", "ip": "iproute2", "mount": "mount"}
"""Program -> Debian package."""
_NSS = "passwd: files\ngroup: files\nshadow: files\nhosts: files resolve [!UNAVAIL=return] dns\n"
# LLMNR and mDNS are on, as systemd ships them: what is off on a link has been turned off there.
_RESOLVED_CONFIGURATION = "[Resolve]\nFallbackDNS=\nLLMNR=yes\nMulticastDNS=yes\n"
_GRACE = 3.0
"""Seconds the command has to end after SIGTERM before everything is killed."""


def check() -> Resolved:
    """Whether this machine can have a stage: NoPermissionError or HostError that says what is missing."""
    if os.geteuid() != 0:
        raise NoPermissionError("private namespaces", "only root may make them", "run it with sudo")
    path = _search_path()
    for program, package in _NEEDED.items():
        if shutil.which(program, path=path) is None:
            raise HostError(program, "not found", f"apt-get install {package}")
    if not Path("/dev/net/tun").exists():
        raise HostError("/dev/net/tun", "not there", "modprobe tun; in a container: --device /dev/net/tun")
    return find()


def run(command: Sequence[str], *, with_internet: bool = False) -> int:
    """Run ``command`` in a new stage and wait for it; its exit code. ResolverdError when there can be no stage.

    Call it from a process with one thread only: it forks.
    """
    programs = check()
    alive, held = os.pipe()
    with keeper.terminal_handed_back(), keeper.signals_held():
        try:
            child = namespaces.fork_into_pid_namespace()
        except PermissionError as error:
            raise NoPermissionError(
                "private namespaces", str(error.strerror), "a container needs --privileged"
            ) from error
        if child == 0:
            os.close(held)
            _be_process_one(command, programs, with_internet, alive)
        os.close(alive)
        try:
            return keeper.wait_for(child, _GRACE)
        finally:
            os.close(held)


def _be_process_one(command: Sequence[str], programs: Resolved, with_internet: bool, alive: int) -> None:
    """The life of the forked child; never returns. When it ends, so does every process in the namespace."""
    code = 1
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:  # the parent was killed before it could matter
            return
        os.close(alive)
        _furnish(programs, with_internet)
        if impatient := signal.sigpending() & keeper.PASSED_ON:
            code = 128 + min(impatient)
            return
        code = keeper.wait_for(os.posix_spawnp(command[0], list(command), os.environ, setsigmask=()))
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        code = error.code
    except OSError as error:
        print(f"resolverd: {error.filename or 'stage'}: {error.strerror}", file=sys.stderr)
        code = 127
    finally:
        if sys.exc_info()[0] is not None:  # a bug of ours: nobody above could show it
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def _furnish(programs: Resolved, with_internet: bool) -> None:
    """Turn new namespaces into a small host."""
    namespaces.unshare(namespaces.MOUNT | namespaces.NET | namespaces.IPC | namespaces.UTS)
    output_of(["mount", "--make-rprivate", "/"])
    output_of(["mount", "-t", "proc", "proc", "/proc"])
    output_of(["mount", "-t", "sysfs", "sysfs", "/sys"])
    if _SHARED_MEMORY.is_dir():
        output_of(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(_SHARED_MEMORY)])
    _furnish_run()
    _furnish_etc()
    _set_environment(programs)
    output_of(["ip", "link", "set", "lo", "up"])
    services.start_bus()
    services.start_resolved(programs)
    if with_internet:
        internet.join()


def _furnish_run() -> None:
    """An empty /run with a folder for temporary files. One that is there already, an outer stage's, keeps its place."""
    outer = Path(os.environ.get("TMPDIR", "/"))
    kept = os.open(outer, os.O_PATH) if outer.is_relative_to("/run") and outer.is_dir() else None
    output_of(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    services.FOLDER.mkdir()
    PROGRAMS.mkdir()
    temporary = _TEMPORARY if outer != _TEMPORARY else Path(f"{_TEMPORARY}-inner")
    temporary.mkdir()
    temporary.chmod(0o1777)
    os.environ["TMPDIR"] = str(temporary)
    if kept is not None:
        outer.mkdir(parents=True)
        # By descriptor, since the path leads to the new /run by now; mount must not turn it into a path first.
        output_of(["mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{kept}", str(outer)])
        os.close(kept)


def _furnish_etc() -> None:
    copy = services.FOLDER / "etc"
    output_of(["cp", "--archive", "/etc", str(copy)])
    output_of(["mount", "--bind", str(copy), "/etc"])
    resolv_conf = Path("/etc/resolv.conf")
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    Path("/etc/nsswitch.conf").write_text(_NSS)
    systemd = Path("/etc/systemd")
    shutil.rmtree(systemd / "resolved.conf.d", ignore_errors=True)
    systemd.mkdir(exist_ok=True)
    (systemd / "resolved.conf").write_text(_RESOLVED_CONFIGURATION)
    if "systemd-resolve" not in {user.pw_name for user in pwd.getpwall()}:
        _add_resolved_user()


def _add_resolved_user() -> None:
    """systemd-resolved gives up root for the user its package makes on installation."""
    taken = {user.pw_uid for user in pwd.getpwall()}
    number = next(number for number in range(999, 100, -1) if number not in taken)
    with Path("/etc/passwd").open("a") as users, Path("/etc/group").open("a") as groups:
        users.write(f"systemd-resolve:x:{number}:{number}::/:/usr/sbin/nologin\n")
        groups.write(f"systemd-resolve:x:{number}:\n")


def _set_environment(programs: Resolved) -> None:
    for name in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # a proxy of the host's cannot be reached from here, and would get the cluster's names
    os.environ |= {
        "RESOLVERD_STAGE": "1",
        "PATH": f"{PROGRAMS}:{_search_path()}",
        # What interactive programs would otherwise leave in the home folder.
        "HISTFILE": f"{os.environ['TMPDIR']}/history",
        "KUBECACHEDIR": f"{os.environ['TMPDIR']}/kubectl",
    }
    # The wrapper keeps the private libraries out of every other program's environment.
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in programs.environment().items())
    wrapper = PROGRAMS / "resolvectl"
    wrapper.write_text(f'#!/bin/sh\n{settings} exec {shlex.join(programs.command(programs.resolvectl))} "$@"\n')
    wrapper.chmod(0o755)


def _search_path() -> str:
    """PATH with the folders of system programs, which some users' lacks."""
    given = os.environ.get("PATH", os.defpath).split(":")
    return ":".join(dict.fromkeys([*given, "/usr/local/sbin", "/usr/sbin", "/sbin"]))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m resolverd.demo.stage", description=__doc__.partition("\n")[0])
    parser.add_argument("--internet", action="store_true", help="join the stand-in for the internet")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    command = arguments[split + 1 :]
    options = parser.parse_args([*arguments[:split], *command[:1]])
    try:
        return run(command or options.command, with_internet=options.internet)
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
