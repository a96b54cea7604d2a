"""``python -m resolverd.cluster.credentials``: a kubeconfig becomes an Access, in a process of its own.

The official client reads the files, runs exec plugins and refreshes tokens; it is imported nowhere else. A process
of its own, because (1) it is large and needed for a second only, (2) a plugin may hang and must not take the daemon
with it, (3) under sudo it belongs to the invoking user, whose caches and helpers the plugins use, (4) the client
writes inline certificates to temporary files, which must not outlive the reading of them: the daemon removes their
folder, also when it had to kill us.

Standard output is one JSON document, and goes to our own daemon over a pipe: it holds the credentials.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_NO_PROGRAM = re.compile(r"\[Errno 2\] No such file or directory: '(.+)'")


def _in_words(said: str) -> str:
    """What the client says of credentials, where that is only the system's error."""
    missing = _NO_PROGRAM.fullmatch(said)
    return f"its credential plugin {missing[1]} is not installed, or not in this PATH" if missing else said


def load(files: list[str], context: str, scratch: str) -> dict[str, Any]:
    """The context (the current one when empty) of the merged kubeconfig ``files``, with everything secret inline.

    ``scratch`` is the folder for the client's temporary files.

    Raises ``kubernetes.config.ConfigException`` and OSError.
    """
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, kube_config

    merger = kube_config.KubeConfigMerger(os.pathsep.join(files))
    merged = merger.config
    if merged is None:
        raise ConfigException("the file is empty")
    # As kubectl has it: the first file that names a current context counts. The client takes the last.
    context = context or next(filter(None, (one.get("current-context") for one in merger.config_files.values())), "")
    for section, entry in (("users", "user"), ("clusters", "cluster")):
        _anchor(merged, section, entry)
    configuration = Configuration()
    configuration.proxy = None
    with _ErrorLog() as errors:
        loader = kube_config.KubeConfigLoader(merged, context or None, config_base_path=None, temp_file_path=scratch)
        loader.load_and_set(configuration)
        if errors.lines and "BearerToken" not in configuration.api_key and not configuration.cert_file:
            return {"refused": _in_words(errors.lines[0])}
        current: dict[str, Any] = loader.current_context
        inner = current["context"]
        return {
            "context": current["name"],
            "namespace": str(inner.get("namespace") or "default"),
            "server": configuration.host.rstrip("/"),
            "token": configuration.api_key.get("BearerToken", ""),
            "ca_pem": _text_of(configuration.ssl_ca_cert),
            "cert_pem": _text_of(configuration.cert_file),
            "key_pem": _text_of(configuration.key_file),
            "verify": bool(configuration.verify_ssl),
            "tls_server_name": configuration.tls_server_name or "",
            "proxy": configuration.proxy or environment_proxy(configuration.host, os.environ),
            "expires": loader.expiry.timestamp() if getattr(loader, "expiry", None) else None,
            "extensions": _extensions(merged, str(inner["cluster"])),
        }


def environment_proxy(server: str, environment: Mapping[str, str]) -> str:
    """The proxy that ``HTTPS_PROXY`` or ``HTTP_PROXY`` names for ``server``, unless ``NO_PROXY`` has its host.

    As in kubectl (Go's httpproxy): names match with all below them, addresses may be networks, loopback needs none.
    """
    parts = urlsplit(server)
    lowered = {name.lower(): value for name, value in environment.items()}
    proxy = lowered.get(f"{parts.scheme}_proxy", "").strip()
    host = (parts.hostname or "").rstrip(".")
    address = _address(host)
    if not proxy or host == "localhost" or (address and address.is_loopback):
        return ""
    for word in lowered.get("no_proxy", "").replace(",", " ").split():
        name = word.rpartition(":")[0] if word.count(":") == 1 else word
        if name == "*" or f".{host}".endswith("." + name.lower().lstrip("*.")):
            return ""
        if address is not None and _is_in(address, name):
            return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_in(address: IPv4Address | IPv6Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False


def load_in_cluster() -> dict[str, Any]:
    """The service account of the pod we run in. Raises ``kubernetes.config.ConfigException`` outside a cluster."""
    from kubernetes.client import Configuration
    from kubernetes.config import load_incluster_config

    configuration = Configuration()
    load_incluster_config(client_configuration=configuration)
    namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return {
        "context": "in-cluster",
        "namespace": namespace.read_text().strip() if namespace.exists() else "default",
        "server": configuration.host.rstrip("/"),
        "token": configuration.api_key["authorization"],
        "ca_pem": _text_of(configuration.ssl_ca_cert),
        "cert_pem": "",
        "key_pem": "",
        "verify": True,
        "tls_server_name": "",
        "proxy": "",
        "expires": None,
        "extensions": {},
    }


_PATHS = ("client-certificate", "client-key", "tokenFile", "certificate-authority")


def _anchor(merged: Any, section: str, entry: str) -> None:
    """Make the paths in ``section`` absolute, each against the file it is written in.

    The client takes those of the user, too, as relative to the file that holds the cluster.
    """
    if section not in merged:
        return
    for node in merged[section]:
        item = node[entry]
        if not isinstance(getattr(item, "value", None), dict):
            continue
        folder = Path(item.path).parent.absolute()
        for key in _PATHS:
            if isinstance(item.value.get(key), str) and item.value[key]:
                item.value[key] = str(folder / item.value[key])
        plugin = item.value.get("exec")
        if isinstance(plugin, dict) and "/" in str(plugin.get("command", "")):
            plugin["command"] = str(folder / str(plugin["command"]))


class _ErrorLog(logging.Handler):
    """The client logs what an exec plugin did wrong and goes on without credentials; we want the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> _ErrorLog:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)


def _text_of(path: str | None) -> str:
    return Path(path).read_text() if path else ""


def _extensions(merged: Any, cluster: str) -> dict[str, Any]:
    node = merged["clusters"].get_with_name(cluster)["cluster"].value
    entries: Iterable[Any] = node.get("extensions") or ()
    return {e["name"]: e.get("extension") for e in entries if isinstance(e, dict) and isinstance(e.get("name"), str)}


def _become(user: str) -> None:
    """Give root up for good, in favour of ``user``: plugins run with that user's rights and home."""
    import pwd

    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def main() -> int:
    parser = argparse.ArgumentParser(prog="resolverd-credentials")
    parser.add_argument("--user", default="", help="become this user first")
    parser.add_argument("--context", default="")
    parser.add_argument("--scratch", default="", help="folder for temporary files, which the caller removes")
    parser.add_argument("--in-cluster", action="store_true")
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    from kubernetes.config import ConfigException
    from yaml import YAMLError

    if arguments.user:
        _become(arguments.user)
    try:
        answer = (
            load_in_cluster() if arguments.in_cluster else load(arguments.files, arguments.context, arguments.scratch)
        )
    except YAMLError as error:
        answer = {"error": " ".join(str(error).split())}
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # The client does not check the shapes it reads: a list where a mapping belongs ends in any of these.
        answer = {"error": str(error) or type(error).__name__}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
