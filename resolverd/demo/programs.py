"""Running the system's own programs (mount, ip, apt-get ...), and saying so in one line when one fails."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from resolverd.errors import HostError


def output_of(command: Sequence[str], *, lines: str = "", folder: Path | None = None, fix: str = "") -> str:
    """What ``command`` prints, given ``lines`` on its standard input. HostError with its last word when it fails."""
    try:
        done = subprocess.run(command, input=lines, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise HostError(command[0], "not found", fix) from error
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.strip().splitlines() if not line.lstrip().startswith("dmesg(1)")]
        raise HostError(shlex.join(command), said[-1] if said else f"exit code {done.returncode}", fix)
    return done.stdout
