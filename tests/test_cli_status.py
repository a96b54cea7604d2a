"""The table of ``status``: short, aligned, within the terminal, coloured only on one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from resolverd import __version__
from resolverd.cli import show
from resolverd.errors import NotRunningError

WITHHELD = {"name": "rs", "kind": "namespace", "reason": "icann-tld", "detail": "public names end in .rs"}
DOCUMENT: dict[str, Any] = {
    "state": "degraded",
    "version": "1.0",
    "since": "2026-01-01T00:00:00Z",
    "host": {
        "backend": "systemd-resolved", "link": "resolverd0", "bus": "dbus-fast", "reason": "it is on the bus",
        "domains": ["~cluster.local", "~svc", "~96.10.in-addr.arpa", "~0.d.f.ip6.arpa"], "search": ["a.svc"],
        "withheld": [{**WITHHELD, "still": ["NAME.rs.svc.cluster.local", "NAME.rs.svc", "NAME"]}] * 12,
        "notes": ["a note"],
        "suffix-list": {
            "path": "/usr/lib/python3.11/site-packages/publicsuffixlist/l.dat", "dated": "2026-01-01", "days": 1,
        },
    },
    "cluster": {
        "context": "dev", "server": "https://api", "domain": "cluster.local", "synced": True, "namespaces": 1,
        "services": 2, "endpoints": 0, "last-event": "2026-01-01T00:00:00Z",
    },
    "dns": {"listen": ["198.18.53.1:53"], "queries": 1, "rcodes": {"NOERROR": 1}},
    "tunnel": {
        "state": "ready", "device": "resolverd0", "transport": "port-forward", "streams": 0, "routes": ["10.0.0.1/32"],
        "bytes": 1500,
    },
    "checks": [
        {"id": "config", "ok": True, "detail": "in force", "fix": ""},
        {"id": "cluster", "ok": False, "detail": "word " * 60, "fix": "do this"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("columns", [48, 60, 80, 140])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(show._table(DOCUMENT, colour=False))
    assert max(map(len, lines)) <= columns
    assert not any("\x1b" in line for line in lines)


def test_it_says_what_matters_in_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    text = "\n".join(show._table(DOCUMENT, colour=False))
    assert "Domains    ~cluster.local ~svc, and 2 reverse zones\n" in text
    assert "Withheld   rs (icann-tld): public names end in .rs; use NAME.rs.svc\n" in text
    assert text.count("rs (icann-tld)") == show.MOST_WITHHELD
    assert "and 2 more: resolverd status -o json" in text
    assert "1 namespace, 2 services, 0 endpoints" in text
    assert "198.18.53.1:53, 1 query: 1 NOERROR" in text
    assert "ready: 0 streams, 1 route, 1.5 kB carried" in text
    assert "Suffixes   …/publicsuffixlist/l.dat of 2026-01-01, 1 day old\n" in text
    assert "✗ cluster: word" in text
    assert text.endswith("(do this)")


def test_that_everything_was_taken_back_is_said_first() -> None:
    taken_back = {**DOCUMENT, "host": {**DOCUMENT["host"], "withdrawn": {"name": "example.com"}}}
    assert next(show._table(taken_back, colour=False)).startswith("resolverd 1.0 is withdrawn, up for ")
    assert next(show._table(DOCUMENT, colour=False)).startswith("resolverd 1.0 is degraded, up for ")


@pytest.mark.parametrize(
    ("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load), ("table", lambda text: text or None)]
)
def test_without_a_daemon_scripts_are_told_its_state_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, read: Callable[[str], Any]
) -> None:
    with pytest.raises(NotRunningError):
        show.show_status(str(tmp_path), output)
    assert read(capsys.readouterr().out) == (None if output == "table" else {"state": "down", "version": __version__})


def test_a_long_list_of_domains_says_what_is_not_shown() -> None:
    names = [f"~n{number}" for number in range(42)]
    assert show._listed(names, "4 reverse zones").endswith(" ~n39, and 2 more and 4 reverse zones")
    assert show._listed(["~svc"]) == "~svc"
    assert show._listed([], "1 reverse zone") == "1 reverse zone"
    assert show._listed([]) == "none"


def test_colours_change_nothing_else() -> None:
    import re

    plain = list(show._table(DOCUMENT, colour=False))
    coloured = list(show._table(DOCUMENT, colour=True))
    assert coloured != plain
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain
