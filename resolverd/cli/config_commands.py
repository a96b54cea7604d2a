"""``resolverd config``: its commands."""

from __future__ import annotations

from typing import Any

import click

from resolverd.cli.flags import common, given_flags


@click.group()
def config() -> None:
    """Check and show the config file.

    None of these needs a running daemon.
    """


@config.command("check")
@common
def check_config(**options: Any) -> int:
    """Name every mistake.

    Prints a line FILE:LINE:COLUMN: WHAT for each. Exit code 0 without, 2 with mistakes.
    """
    from resolverd.cli.config import check

    return check(options["config"] or "", given_flags(options))


@config.command("show")
@common
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
@common
def show_config_path(**options: Any) -> int:
    """Show the files looked at."""
    from resolverd.cli.config import path

    return path(options["config"] or "", given_flags(options))
