"""``resolverd`` and ``python -m resolverd``: run a command, turn what went wrong into one line and an exit code."""

from __future__ import annotations

import sys
import traceback

_HINT = "(a defect; with --log-level debug it shows where)"


def main() -> None:
    """The console script."""
    import click

    from resolverd.cli.commands import cli
    from resolverd.errors import ExitCode, ResolverdError, one_line

    try:
        code = cli.main(prog_name="resolverd", standalone_mode=False)
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        code = error.code
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # `resolverd config` alone: its help, as it is
        print(error.format_message(), file=sys.stderr)
        code = ExitCode.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "resolverd"
        print(f"resolverd: bad usage: {one_line(error.format_message())} (see {command} --help)", file=sys.stderr)
        code = ExitCode.USAGE
    except click.ClickException as error:
        print(f"resolverd: {one_line(error.format_message())}", file=sys.stderr)
        code = ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it flushes at its end.
        sys.stderr.close()
        code = 141
    except Exception as error:  # noqa: BLE001  # a bug of ours; the contract promises one line
        print(f"resolverd: internal error: {type(error).__name__}: {one_line(str(error))}", _HINT, file=sys.stderr)
        if "debug" in sys.argv:
            traceback.print_exc()
        code = ExitCode.DEGRADED
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
