"""``resolverd doctor``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from resolverd.cli.layout import columns, shortened, wrapped
from resolverd.cli.progress import DIM, GREEN, PLAIN, RED, Steps, coloured
from resolverd.doctor.gather import gather
from resolverd.doctor.table import judge
from resolverd.doctor.verdict import Finding, Severity, State
from resolverd.errors import ExitCode, one_line

YELLOW = "\x1b[33m"
_COLOURS = {Severity.ERROR: RED, Severity.WARNING: YELLOW, Severity.INFO: YELLOW}
_STATE_WIDTH = 8
_LEAST_ROOM = 30
"""Columns for what is said, also where the terminal has to break it."""


def examine(file: str, flags: dict[str, Any], output: str) -> int:
    """Print what every check says; 1 when an error or a warning was found."""
    logging.disable(logging.WARNING)  # what a library has to say of a fault is said by a check
    steps = Steps()
    facts = asyncio.run(gather(file, flags, lambda text: steps.waiting(f"looking at {text}") if text else None))
    steps.forget()
    findings = list(judge(facts))
    grave = any(finding.is_grave for finding in findings)
    if output == "json":
        click.echo(json.dumps({"ok": not grave, "checks": [each.to_json() for each in findings]}, indent=2))
    else:
        click.echo("\n".join(table(findings, coloured(sys.stdout))))
    return ExitCode.DEGRADED if grave else ExitCode.OK


def table(findings: Sequence[Finding], colour: bool) -> Iterator[str]:
    """A line for each finding, with its fix below it; how many there are of each kind last."""
    width = max(len(finding.id) for finding in findings)
    for finding in findings:
        state, paint = _state(finding)
        head = f"{state:<{_STATE_WIDTH}} {finding.id:<{width}}  "
        room, detail = max(_LEAST_ROOM, columns() - len(head)), finding.verdict.detail
        # A path of what is well need not be copied; `--output json` has the whole.
        lines = wrapped(shortened(detail, room) if finding.verdict.state is State.OK else detail, room)
        yield (f"{paint}{state}{PLAIN}{head[len(state) :]}" if colour else head) + lines[0]
        yield from (" " * len(head) + line for line in lines[1:])
        if finding.verdict.fix and finding.verdict.state is State.FAILED:
            yield " " * (_STATE_WIDTH + 1) + one_line(f"fix: {finding.verdict.fix}")
    counts = [_state(finding)[0] for finding in findings]
    shown = (f"{counts.count(word)} {word}" for word in ("ok", *Severity, State.SKIPPED) if word in counts)
    yield ""
    yield f"{len(findings)} checks: {', '.join(shown)}"


def _state(finding: Finding) -> tuple[str, str]:
    """The word in front, and its colour."""
    if finding.verdict.state is State.FAILED:
        return finding.severity.value, _COLOURS[finding.severity]
    return finding.verdict.state.value, GREEN if finding.verdict.state is State.OK else DIM
