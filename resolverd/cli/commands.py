"""The commands. Each parses, calls and prints; what is heavy is imported when a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from resolverd import __version__
from resolverd.cli.config_commands import config
from resolverd.cli.flags import LEVELS, STATE_DIR, common, given_flags

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
def cli() -> None:
    """Make a Kubernetes cluster's service names resolve, and their addresses answer, on this machine.

    Nothing is installed in the cluster. Start with `resolverd up`, or look at `resolverd demo`.
    """


@cli.command()
@common
def run(**options: Any) -> int:
    """Run the daemon in the foreground.

    SIGTERM or Ctrl-C puts the host back; SIGHUP reads the config file anew.
    """
    from resolverd.cli.foreground import run_daemon

    return run_daemon(options["config"] or "", given_flags(options))


@cli.command()
@common
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
@common
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
@common
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def why(name: str, output: str, **options: Any) -> int:
    """Show whose a name is, and why.

    Which rule decides and where it comes from, what this host should do with the name, and what it does. Without a
    daemon by the config file alone. Exit code 1 when the host does something else.
    """
    from resolverd.cli.why import explain

    return explain(name, options["config"] or "", given_flags(options), output)


@cli.command()
@common
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plan(output: str, **options: Any) -> int:
    """Show what would be changed on this host.

    By the config file as it is now, beside what a running daemon has in force. Reads the cluster's namespaces, and
    changes nothing.
    """
    from resolverd.cli.plan import show

    return show(options["config"] or "", given_flags(options), output)


@cli.command()
@common
def rbac(**options: Any) -> int:
    """Print the least role that is needed.

    A ClusterRole, or with namespaces in the settings a Role for each, as YAML for kubectl.
    """
    from resolverd.cli.rbac import text
    from resolverd.config import load

    click.echo(text(load(options["config"] or "", given_flags(options)).settings), nl=False)
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


cli.add_command(config)


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
