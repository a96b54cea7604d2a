"""What a line of the log looks like, for people and for the journal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import struct
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
        logs.configure("debug", journal=str(file.parent / "absent"))
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


class Journal:
    """The journal's socket."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = str(folder / "socket")
        self.stream = folder / "stream"
        self._monkeypatch = monkeypatch
        self._open = contextlib.ExitStack()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(5)

    def event(self) -> dict[str, str]:
        """The fields of the next one, as the native protocol has them."""
        octets, found = self._socket.recv(1 << 18), {}
        while octets:
            line, _, octets = octets.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack("<Q", octets[:8])
                value, octets = octets[8 : 8 + length], octets[9 + length :]
            found[name.decode()] = value.decode()
        return found

    def configure(self) -> None:
        """Log to it, with standard error leading to it, too."""
        self._open.enter_context(output := self.stream.open("a"))
        facts = self.stream.stat()
        self._monkeypatch.setitem(os.environ, "JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        self._monkeypatch.setattr(sys, "stderr", output)  # now: pytest has one of its own for each phase
        logs.configure("info", "dns", self.path)

    def end(self) -> None:
        self._socket.close()

    def close(self) -> None:
        self.end()
        for handler in logging.getLogger().handlers:
            handler.close()
        self._open.close()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    made = Journal(tmp_path, monkeypatch)
    yield made
    made.close()


def test_the_journal_gets_fields(journal: Journal) -> None:
    journal.configure()
    log = logging.getLogger("resolverd.test")
    log.debug("too little")
    log.warning("a name with a\nnew line")
    event = journal.event()
    assert int(event.pop("CODE_LINE")) > 0
    assert event == {
        "MESSAGE": "resolverd.test: a name with a new line",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "resolverd",
        "LOGGER": "resolverd.test",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_the_journal_gets_fields",
        "RESOLVERD_PROCESS": "dns",
    }


def test_a_traceback_is_one_event_of_the_journal(journal: Journal) -> None:
    journal.configure()
    try:
        raise ValueError("four")
    except ValueError:
        logging.getLogger("resolverd.test").exception("five")
    event = journal.event()
    assert event["PRIORITY"] == "3"
    assert event["MESSAGE"].startswith("resolverd.test: five\nTraceback")
    assert event["MESSAGE"].endswith("ValueError: four")
    assert event["RESOLVERD_PROCESS"] == "dns"


def test_what_the_journal_does_not_take_goes_to_standard_error(journal: Journal) -> None:
    journal.configure()
    logging.getLogger("resolverd.test").warning("x" * 1_000_000)
    journal.end()
    logging.getLogger("resolverd.test").warning("six")
    sys.stderr.flush()
    lines = journal.stream.read_text().splitlines()
    assert [line[:21] for line in lines] == ["<4>resolverd.test: xx", "<4>resolverd.test: si"]


def test_everybody_else_gets_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "JOURNAL_STREAM", "1:1")
    assert lines_of(tmp_path / "file", monkeypatch)[1].endswith(" INFO    resolverd.test: two lines")


def test_a_stream_without_a_descriptor_is_not_the_journals() -> None:
    assert not logs.goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})
