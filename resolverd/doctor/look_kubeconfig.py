"""Facts about the kubeconfig: the files and their entries, without the Kubernetes client or the credentials."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from resolverd.cluster import kubeconfig
from resolverd.cluster.kubeconfig import Invoker
from resolverd.errors import one_line
from resolverd.settings import ClusterSettings

from .facts import KubeconfigFacts

_SECRETS = ("token", "client-key-data", "password")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def look(settings: ClusterSettings, who: Invoker | None, environment: Mapping[str, str]) -> KubeconfigFacts:
    """What the files say of the context that is to be followed. Of two entries with one name the first counts."""
    if kubeconfig.in_cluster(settings.kubeconfig, environment):
        return KubeconfigFacts(in_cluster=True)
    found: list[tuple[Path, dict[str, Any]]] = []
    missing, unreadable, exposed, malformed = [], [], [], ""
    for path in kubeconfig.named(settings.kubeconfig, who, environment):
        try:
            document = yaml.load(path.read_bytes(), _Loader)  # noqa: S506  # a safe loader, in C where there is one
        except FileNotFoundError:
            missing.append(str(path))
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror}")
        except yaml.YAMLError as error:
            malformed = malformed or one_line(f"{path}: {' '.join(str(error).split())}")
        else:
            document = document if isinstance(document, dict) else {}
            found.append((path, document))
            if _is_exposed(path, document):
                exposed.append(str(path))
    entries = _chosen(found, settings.context, environment)
    return KubeconfigFacts(
        files=tuple(str(path) for path, _ in found),
        missing=tuple(missing),
        unreadable=tuple(unreadable),
        exposed=tuple(exposed),
        malformed=malformed,
        **entries,
    )


def _is_exposed(path: Path, document: dict[str, Any]) -> bool:
    """Whether others than its owner may change it, or read a secret in it."""
    mode = path.stat().st_mode
    secret = any(_inner(user, "user").get(key) for user in _list(document, "users") for key in _SECRETS)
    return bool(mode & 0o022 or (secret and mode & 0o044))


def _chosen(found: list[tuple[Path, dict[str, Any]]], wanted: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The fields about the context: its cluster, its user, the user's exec plugin."""
    current = next((str(text) for _, document in found if (text := document.get("current-context"))), "")
    name = wanted or current
    contexts = _named(found, "contexts")
    inner = _inner(contexts.get(name, (Path(), {}))[1], "context")
    cluster, user = str(inner.get("cluster") or ""), str(inner.get("user") or "")
    users = _named(found, "users")
    folder, entry = users.get(user, (Path(), {}))
    plugin = _inner(entry, "user").get("exec")
    command = str(plugin.get("command") or "") if isinstance(plugin, dict) else ""
    if "/" in command:
        command = str(folder.absolute() / command)
    return {
        "context": one_line(name),
        "contexts": tuple(one_line(each) for each in contexts),
        "cluster": one_line(cluster),
        "has_cluster": cluster in _named(found, "clusters"),
        "user": one_line(user),
        # Without any user a context is anonymous, which some clusters take.
        "has_user": user in users or not user,
        "plugin": one_line(command),
        "plugin_path": (shutil.which(command, path=environment.get("PATH", os.defpath)) or "") if command else "",
    }


def _named(found: list[tuple[Path, dict[str, Any]]], section: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Entries by name, each with the folder of its file; the first of a name counts."""
    entries: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, document in found:
        for entry in _list(document, section):
            entries.setdefault(str(entry.get("name")), (path.parent, entry))
    return entries


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _inner(entry: dict[str, Any], key: str) -> dict[str, Any]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}
