"""The flags that several commands share, and which setting each gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = click.Choice(["debug", "info", "warning", "error"])


class _Backends(click.Choice[str]):
    """Ours, and those of other packages; they are looked for only when none of ours is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from resolverd import plugins

        return value if value in plugins.names(plugins.BACKENDS) else super().convert(value, param, ctx)


BACKENDS = _Backends(["auto", "systemd-resolved", "etc-resolver", "override", "none"])
STATE_DIR = click.option("--state-dir", metavar="DIR", help="Folder of the control socket.")

# Flag, the setting it gives, and how click shall treat it.
COMMON: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--config", "", {"metavar": "FILE", "help": "Config file; by default the usual places are looked at."}),
    ("--kubeconfig", "cluster.kubeconfig", {"metavar": "FILE", "help": "Default: $KUBECONFIG, then ~/.kube/config."}),
    (
        "--context",
        "cluster.context",
        {"metavar": "NAME", "help": "The kubeconfig's context; default: its current one."},
    ),
    (
        "--namespace",
        "cluster.namespaces",
        {"metavar": "NS", "multiple": True, "help": "Watch this namespace only. May be repeated."},
    ),
    ("--backend", "host.backend", {"type": BACKENDS, "help": "How the host is told which names are ours."}),
    ("--tunnel/--no-tunnel", "tunnel.enabled", {"default": None, "help": "Make the addresses reachable, too, or not."}),
    ("--dns-listen", "daemon.dns_listen", {"metavar": "ADDR:PORT", "help": "Where the DNS server listens."}),
    ("--state-dir", "daemon.state_dir", {"metavar": "DIR", "help": "Folder of the control socket."}),
    ("--log-level", "daemon.log_level", {"type": LEVELS, "help": "What is logged; debug also shows tracebacks."}),
)


def common(command: F) -> F:
    """The options that `run`, `up` and others share."""
    for flag, _, attributes in reversed(COMMON):
        command = click.option(flag, **attributes)(command)
    return command


def given_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given as flags, by their dotted names."""
    named = {flag.split("/")[0].removeprefix("--").replace("-", "_"): setting for flag, setting, _ in COMMON}
    return {
        setting: list(value) if isinstance(value, tuple) else value
        for option, setting in named.items()
        if setting and (value := options.get(option)) not in (None, ())
    }
