"""Which kubeconfig, as which user, and what is in it. The files are read by :mod:`.credentials`, a process apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resolverd.errors import ClusterError, UsageError
from resolverd.state import PYTHON, SCRATCH

from .access import Access

PLUGIN_DEADLINE = 60.0
"""Seconds an exec plugin may take; some open a browser."""


@dataclass(frozen=True, slots=True)
class Invoker:
    """The person behind ``sudo``."""

    name: str
    home: Path


@dataclass(frozen=True, slots=True)
class KubeContext:
    """What one context of a kubeconfig says."""

    name: str
    namespace: str
    access: Access
    expires: float | None = None
    """Unix time, in seconds, at which the credentials end; None: not known."""
    extensions: Mapping[str, Any] = field(default_factory=dict)


def invoker(environment: Mapping[str, str] = os.environ) -> Invoker | None:
    """Who called sudo, when we are root by sudo; None otherwise."""
    name = environment.get("SUDO_USER", "")
    if os.geteuid() != 0 or name in ("", "root"):
        return None
    import pwd

    try:
        return Invoker(name, Path(pwd.getpwnam(name).pw_dir))
    except KeyError:
        return None


def named(setting: str, who: Invoker | None, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The same as :func:`files`, with those that are not there."""
    home = who.home if who else Path(environment.get("HOME") or "/root")
    text = setting or environment.get("KUBECONFIG", "") or str(home / ".kube" / "config")
    return tuple(Path(part) if part[:2] != "~/" else home / part[2:] for part in text.split(os.pathsep) if part)


def files(setting: str, who: Invoker | None, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The kubeconfig files to read, most important first: the setting, ``$KUBECONFIG``, ``~/.kube/config``.

    Files that are not there are left out, as kubectl does, unless nothing is left. Raises UsageError.
    """
    paths = named(setting, who, environment)
    try:
        found = tuple(path for path in paths if path.exists())
    except PermissionError as error:
        raise UsageError(
            "kubeconfig", f"{error.filename} may not be read", "name one with --kubeconfig FILE"
        ) from error
    if not found:
        raise UsageError(
            "no kubeconfig",
            f"{os.pathsep.join(map(str, paths))} does not exist",
            "name one with --kubeconfig FILE or $KUBECONFIG",
        )
    return found


def in_cluster(setting: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the service account of the pod we run in is all there is."""
    own = Path(environment.get("HOME") or "/root") / ".kube" / "config"
    named = bool(setting or environment.get("KUBECONFIG") or own.exists())
    return not named and "KUBERNETES_SERVICE_HOST" in environment


async def load(setting: str, context: str, scratch: Path, who: Invoker | None = None) -> KubeContext:
    """Read the kubeconfig and run its exec plugin. Raises UsageError (files) and ClusterError (credentials).

    ``scratch`` is a folder for temporary folders, which whoever owns it clears when we are killed.
    """
    if in_cluster(setting):
        named = "the pod's service account"
        answer = await _ask(["--in-cluster"], named)
    else:
        paths = files(setting, who)
        named = os.pathsep.join(map(str, paths))
        with _scratch(scratch, who) as folder:
            user = ("--user", who.name) if who else ()
            answer = await _ask(["--context", context, "--scratch", folder, *user, "--", *map(str, paths)], named)
    if "refused" in answer:
        raise ClusterError(f"kubeconfig {named}", answer["refused"], "log in again, then try kubectl get namespaces")
    if "error" in answer:
        raise UsageError(f"kubeconfig {named}", answer["error"], "try kubectl config view")
    access = Access(**{name: answer[name] for name in Access.__dataclass_fields__})
    return KubeContext(answer["context"], answer["namespace"], access, answer["expires"], answer["extensions"])


@contextmanager
def _scratch(parent: Path, who: Invoker | None) -> Iterator[str]:
    """A private folder of the user as whom the credentials are loaded; gone afterwards, with what is in it."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=parent) as folder:
        if who:
            shutil.chown(folder, who.name)
        yield folder


async def _ask(arguments: list[str], named: str) -> dict[str, Any]:
    import asyncio  # of those who import this module, `resolverd status` never comes here, and has no time to lose

    try:
        process = await asyncio.create_subprocess_exec(
            *PYTHON,
            "resolverd.cluster.credentials",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        why = f"the process that reads it cannot be started: {error.strerror}"
        raise ClusterError(f"kubeconfig {named}", why) from error
    try:
        output, complaint = await asyncio.wait_for(process.communicate(), PLUGIN_DEADLINE)
    except TimeoutError:
        raise ClusterError(
            f"kubeconfig {named}",
            f"its credential plugin gave no answer in {PLUGIN_DEADLINE:.0f} s",
            "run kubectl get namespaces once, then try again",
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the plugin, too, which holds our pipes
            await process.communicate()
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise ClusterError(f"kubeconfig {named}", last[0], "try kubectl get namespaces") from None
    return answer
