"""What a line of the log looks like, for people and for the journal."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolverd import logs


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines_of(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What standard error, the journal's when ``file`` is there already, gets of some events."""
    with file.open("a") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("debug")
        log = logging.getLogger("resolverd.test")
        log.debug("one")
        log.info("two\nlines")
        log.warning("three")
        try:
            raise ValueError("four")
        except ValueError:
            log.exception("five")
        monkeypatch.undo()
    return file.read_text().splitlines()


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "journal"
    file.touch()
    monkeypatch.setitem(os.environ, "JOURNAL_STREAM", f"{file.stat().st_dev}:{file.stat().st_ino}")
    lines = lines_of(file, monkeypatch)
    assert lines[:4] == [
        "<7>resolverd.test: one",
        "<6>resolverd.test: two lines",
        "<4>resolverd.test: three",
        "<3>resolverd.test: five",
    ]
    assert len(lines) > 5
    assert all(line.startswith("<3>") for line in lines[4:]), "a traceback keeps its priority"


def test_everybody_else_gets_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "JOURNAL_STREAM", "1:1")
    assert lines_of(tmp_path / "file", monkeypatch)[1].endswith(" INFO    resolverd.test: two lines")


def test_a_stream_without_a_descriptor_is_not_the_journals() -> None:
    assert not logs.goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})
