"""The commands. Each parses, calls and prints; what is heavy is imported when a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from resolverd import __version__

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
LEVELS = click.Choice(["debug", "info", "warning", "error"])


class _Backends(click.Choice[str]):
    """Ours, and those of other packages; they are looked for only when none of ours is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from resolverd import plugins

        return value if value in plugins.names(plugins.BACKENDS) else super().convert(value, param, ctx)


BACKENDS = _Backends(["auto", "systemd-resolved", "etc-resolver", "override", "none"])
STATE_DIR = click.option("--state-dir", metavar="DIR", help="Folder of the control socket.")

# Flag, the setting it gives, and how click shall treat it.
_COMMON: tuple[tuple[str, str, dict[str, Any]], ...] = (
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


def _common(command: F) -> F:
    """The options that `run` and `up` share."""
    for flag, _, attributes in reversed(_COMMON):
        command = click.option(flag, **attributes)(command)
    return command


def given_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given as flags, by their dotted names."""
    named = {flag.split("/")[0].removeprefix("--").replace("-", "_"): setting for flag, setting, _ in _COMMON}
    return {
        setting: list(value) if isinstance(value, tuple) else value
        for option, setting in named.items()
        if setting and (value := options.get(option)) not in (None, ())
    }


@click.group(context_settings=CONTEXT)
def cli() -> None:
    """Make a Kubernetes cluster's service names resolve, and their addresses answer, on this machine.

    Nothing is installed in the cluster. Start with `resolverd up`, or look at `resolverd demo`.
    """


@cli.command()
@_common
def run(**options: Any) -> int:
    """Run the daemon in the foreground.

    SIGTERM or Ctrl-C puts the host back; SIGHUP reads the config file anew.
    """
    from resolverd.cli.foreground import run_daemon

    return run_daemon(options["config"] or "", given_flags(options))


@cli.command()
@_common
@click.option("--wait", default=30.0, show_default=True, metavar="SECONDS", help="Longest wait until all works.")
def up(wait: float, **options: Any) -> int:
    """Start the daemon, wait until all works.

    It runs in the background. Ready means: a name resolves through the host's own resolver, and a connection opens.
    On a failure nothing is left behind.

    An answer to ping is ours: a pod that is ready stands behind the address. Of the way to it, it says nothing.
    """
    from resolverd.cli.background import start

    return start(options["config"] or "", given_flags(options), wait)


@cli.command()
@STATE_DIR
def down(state_dir: str | None) -> int:
    """Stop the daemon, put everything back.

    Does no harm when it is not running, and tidies up after one that was killed.
    """
    from resolverd.cli.background import stop

    return stop(state_dir or "")


@cli.command()
@STATE_DIR
def cleanup(state_dir: str | None) -> int:
    """Undo what a killed daemon left.

    Does no harm when there is nothing, and refuses while a daemon runs.
    """
    from resolverd.cli.cleanup import clean_up

    return clean_up(state_dir or "")


@cli.command()
@STATE_DIR
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def status(state_dir: str | None, output: str) -> int:
    """Show what is in force.

    Exit code 0 healthy, 1 degraded, 3 not running.
    """
    from resolverd.cli.show import show_status

    return show_status(state_dir or "", output)


@cli.command()
@click.argument("suffix", default="")
@STATE_DIR
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def tail(suffix: str, state_dir: str | None, output: str) -> int:
    """Show queries as they come.

    Those for SUFFIX and below it, or all of them: when, from where, what, the code, how long it took, by which rule.
    """
    from resolverd.cli import observe

    return observe.tail(state_dir or "", suffix, output)


@cli.command()
@STATE_DIR
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def connections(state_dir: str | None, output: str) -> int:
    """Show what the tunnel carries."""
    from resolverd.cli import observe

    return observe.connections(state_dir or "", output)


@cli.command()
@click.argument("level", type=LEVELS)
@STATE_DIR
def loglevel(level: str, state_dir: str | None) -> int:
    """Change what is logged.

    In all processes of the running daemon, until it is restarted.
    """
    from resolverd.cli import observe

    return observe.set_level(state_dir or "", level)


@cli.command()
@_common
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(output: str, **options: Any) -> int:
    """Look for what may go wrong.

    Changes nothing, works without a daemon and without root. Exit code 0, or 1 with an error or a warning.
    """
    from resolverd.cli.doctor import examine

    return examine(options["config"] or "", given_flags(options), output)


@cli.command()
@click.argument("name")
@click.argument("type", default="A")
@STATE_DIR
@click.option("--server", metavar="ADDR:PORT", help="Ask this server instead of the running daemon's.")
def query(name: str, type: str, state_dir: str | None, server: str | None) -> int:  # noqa: A002  # as dig calls it
    """Ask the daemon's DNS server.

    Prints the answer as `dig +short` does, the same on every system. TYPE is A unless given.
    """
    from resolverd.cli.show import show_answer

    return show_answer(state_dir or "", server or "", name, type)


@cli.command()
@click.argument("name")
@_common
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def why(name: str, output: str, **options: Any) -> int:
    """Show whose a name is, and why.

    Which rule decides and where it comes from, what this host should do with the name, and what it does. Without a
    daemon by the config file alone. Exit code 1 when the host does something else.
    """
    from resolverd.cli.why import explain

    return explain(name, options["config"] or "", given_flags(options), output)


@cli.command()
@_common
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plan(output: str, **options: Any) -> int:
    """Show what would be changed on this host.

    By the config file as it is now, beside what a running daemon has in force. Reads the cluster's namespaces, and
    changes nothing.
    """
    from resolverd.cli.plan import show

    return show(options["config"] or "", given_flags(options), output)


@cli.command()
@_common
def rbac(**options: Any) -> int:
    """Print the least role that is needed.

    A ClusterRole, or with namespaces in the settings a Role for each, as YAML for kubectl.
    """
    from resolverd import config
    from resolverd.cli.rbac import text

    click.echo(text(config.load(options["config"] or "", given_flags(options)).settings), nl=False)
    return 0


@cli.command()
@click.option("--objects", metavar="DIR", type=click.Path(path_type=Path), help="YAML files with your own objects.")
@click.option("--shell/--no-shell", default=None, help="End in a shell inside; default: when there is a terminal.")
@click.option("--cluster-only", is_flag=True, help="Only the cluster's API, on loopback; needs no root.")
@click.option(
    "--kubeconfig", metavar="FILE", type=click.Path(path_type=Path), help="With --cluster-only: write it here."
)
def demo(objects: Path | None, shell: bool | None, cluster_only: bool, kubeconfig: Path | None) -> int:
    """Show it all on an embedded cluster.

    Runs in private namespaces: nothing on this host is touched, and no cluster is needed.
    """
    if cluster_only:
        import asyncio

        from resolverd.demo.cluster import DemoCluster, serve

        asyncio.run(serve(DemoCluster(objects), kubeconfig))
        return 0
    if kubeconfig:
        raise click.UsageError("--kubeconfig goes with --cluster-only")
    from resolverd.demo.tour import run_demo

    return run_demo(objects, shell)


@cli.group()
def config() -> None:
    """Check and show the config file.

    None of these needs a running daemon.
    """


@config.command("check")
@_common
def check_config(**options: Any) -> int:
    """Name every mistake.

    Prints a line FILE:LINE:COLUMN: WHAT for each. Exit code 0 without, 2 with mistakes.
    """
    from resolverd.cli.config import check

    return check(options["config"] or "", given_flags(options))


@config.command("show")
@_common
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def show_config(output: str, **options: Any) -> int:
    """Show every setting and its origin.

    That is a default, a file with line and column, an extension of the kubeconfig, or a flag.
    """
    from resolverd.cli.config import show

    return show(options["config"] or "", given_flags(options), output)


@config.command("schema")
def print_config_schema() -> int:
    """Print the file's JSON Schema."""
    from resolverd.cli.config import print_schema

    return print_schema()


@config.command("path")
@_common
def show_config_path(**options: Any) -> int:
    """Show the files looked at."""
    from resolverd.cli.config import path

    return path(options["config"] or "", given_flags(options))


ROOT = click.option(
    "--root", default="/", metavar="DIR", type=click.Path(path_type=Path), help="Write below DIR, for packagers."
)
DRY = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@cli.command("install-service")
@click.option("--config", metavar="FILE", help="Config file; default: /etc/resolverd/config.yaml, if it is there.")
@click.option("--kubeconfig", metavar="FILE", help="Default: that of the user.")
@click.option("--user", metavar="NAME", help="Whose kubeconfig it is; default: who called sudo.")
@click.option("--group", metavar="NAME", help="Whose members may use and start it; default: root only.")
@click.option("--now", is_flag=True, help="Start it, too, and at every boot.")
@ROOT
@DRY
def install_service(root: Path, dry_run: bool, now: bool, **options: str | None) -> int:
    """Let systemd or launchd run the daemon.

    Writes its files, and no others; a second time it changes nothing.
    """
    from resolverd.cli.service import install, service_for

    named = ((f"--{name}", options[name]) for name in ("config", "kubeconfig"))
    flags = [part for flag, file in named if file for part in (flag, str(Path(file).absolute()))]
    chosen = service_for(flags, options["user"] or "", options["group"] or "")
    return install(chosen, root.absolute(), dry=dry_run, now=now)


@cli.command("uninstall-service")
@ROOT
@DRY
def uninstall_service(root: Path, dry_run: bool) -> int:
    """Stop the service, remove its files.

    Files that are not of our making are left alone.
    """
    from resolverd.cli.service import uninstall

    return uninstall(root.absolute(), dry=dry_run)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the shell's completions.

    For bash: source <(resolverd completion bash)
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - one of click's own
    click.echo(found(cli, {}, "resolverd", "_RESOLVERD_COMPLETE").source())
    return 0


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"resolverd {__version__} (Python {sys.version.split()[0]})")
