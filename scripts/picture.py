"""docs/demo.svg from what the demo really prints: ``python scripts/picture.py`` (as root, as ``make demo``).

The steps in PICKED are looked up by their commands in the output of ``resolverd demo --no-shell``, and drawn as a
terminal. Text stays text: the picture can be searched, copied from, and read by a screen reader.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "demo.svg"
PICKED = (
    ("resolverd up", r"✓|is up"),
    ("dig +short kubernetes.default", ""),
    ("curl http://web/", ""),
    ("curl http://web.shop.svc.cluster.local/", ""),
    ("curl http://docs.rs/", ""),
    ("resolverd status", r"is healthy|^Withheld +rs|NAME\.rs"),
    ("resolverd down", ""),
)
"""Commands, and which lines of their output are shown (all, or those that match)."""
COLUMNS, ADVANCE, LEADING, EDGE = 106, 8.0, 20, 20
"""Characters in a line; their width, the height of a line, and the margin, in pixels."""
_COLOURS = {"note": "#7d8590", "command": "#e6edf3", "output": "#b1bac4", "done": "#3fb950"}
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    text: str


def steps(output: str) -> dict[str, tuple[str, list[str]]]:
    """By command: the remark above it, and the lines it printed; the first of equal commands counts."""
    found: dict[str, tuple[str, list[str]]] = {}
    remark = ""
    printed: list[str] = []
    for line in output.splitlines():
        if line.startswith("# "):
            remark, printed = line, []
        elif line.startswith("$ "):
            printed = []
            found.setdefault(line[2:], (remark, printed))
            remark = ""
        elif line.strip():
            printed.append(line)
    return found


def drawn(output: str) -> list[Line]:
    """What is shown. KeyError when the demo has no such step any more."""
    found = steps(output)
    lines: list[Line] = []
    for command, wanted in PICKED:
        remark, printed = found[command]
        lines += [Line("note", "")] if lines else []
        lines += [Line("note", remark[:COLUMNS])] if remark else []
        lines.append(Line("command", f"$ {command}"))
        for line in printed:
            if re.search(wanted, line):
                lines.append(Line("done" if line.startswith("✓") else "output", line[:COLUMNS]))
    return lines


def svg(lines: list[Line]) -> str:
    width, height = COLUMNS * ADVANCE + 2 * EDGE, len(lines) * LEADING + 2 * EDGE
    rows = []
    for number, line in enumerate(lines):
        # A tick is green, what is done is not.
        parts = [("done", "✓"), ("output", line.text[1:])] if line.kind == "done" else [(line.kind, line.text)]
        spans = "".join(f'<tspan fill="{_COLOURS[kind]}">{escape(text)}</tspan>' for kind, text in parts)
        rows.append(f'<text x="{EDGE}" y="{EDGE + LEADING * number + 14}" xml:space="preserve">{spans}</text>')
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" font-size="13"',
            f'     font-family="{_FONT}">',
            "<title>resolverd up, a cluster's names and addresses by dig and curl, status, and down</title>",
            f'<rect width="{width:g}" height="{height}" rx="8" fill="#0d1117"/>',
            *rows,
            "</svg>\n",
        )
    )


def main() -> int:
    command = [sys.executable, "-P", "-m", "resolverd", "demo", "--no-shell"]
    demo = subprocess.run(command, capture_output=True, text=True, check=False)
    if demo.returncode:
        print(f"picture: the demo ended with exit code {demo.returncode}: {demo.stderr.strip()}", file=sys.stderr)
        return 1
    PICTURE.write_text(svg(drawn(demo.stdout)))
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
