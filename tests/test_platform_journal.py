"""The journal: on disk before the deed, undone once, believed only when it is one's own."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from resolverd import start
from resolverd.errors import HostError, NoPermissionError
from resolverd.state import StateDirectory
from resolverd_platform import host_facts
from resolverd_platform.guard import Guard
from resolverd_platform.journal import Deed, Journal
from resolverd_platform.resolv_conf import Author, Original, Ours, put_in
from resolverd_platform.undo import RESOLV_CONF, restore, take_back, undo

THEIRS = "# theirs\nnameserver 192.0.2.53\n"


def changed(folder: Path, file: Path, original: str | None = THEIRS) -> str:
    """``file`` as a daemon of the state directory ``folder`` leaves it."""
    text = put_in(Original(original), Ours(ip_address("127.0.53.53"), ()), Author(1, folder))
    file.write_text(text)
    return text


def deed(file: Path, run: str = "r1", original: str | None = THEIRS) -> Deed:
    return Deed(RESOLV_CONF, {"path": str(file), "target": str(file), "original": original}, run)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "state").mkdir()
    return Journal(tmp_path / "state")


def test_what_it_names_is_undone_once(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    changed(journal.folder, file)
    journal.write(deed(file))
    assert undo(journal) == [f"{file} put back"]
    assert (file.read_text(), undo(journal), list(journal.folder.iterdir())) == (THEIRS, [], [])


def test_a_file_that_was_not_there_is_removed(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    changed(journal.folder, file, None)
    journal.write(deed(file, original=None))
    assert undo(journal) == [f"{file}, which was not there, removed"]
    assert not file.exists()


@pytest.mark.parametrize("now", ["nameserver 198.51.100.1\n", THEIRS])
def test_a_file_that_has_nothing_of_ours_is_left_alone(journal: Journal, tmp_path: Path, now: str) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(now)
    journal.write(deed(file))
    before = file.stat().st_ino
    assert undo(journal) == []
    assert (file.read_text(), file.stat().st_ino, journal.path.exists()) == (now, before, False)


def test_a_file_half_put_back_is_finished(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(THEIRS + "\n\n\n")
    (tmp_path / ".resolv.conf.resolverd").write_text("half")
    journal.write(deed(file))
    assert undo(journal) == [f"{file} put back"]
    assert file.read_text() == THEIRS
    assert not (tmp_path / ".resolv.conf.resolverd").exists()


@pytest.mark.parametrize("by", ["cleanup", "guard"])
def test_one_half_written_goes_since_nothing_was_done_yet(journal: Journal, tmp_path: Path, by: str) -> None:
    (journal.folder / "journal.new").touch()
    if by == "guard":
        Guard.start(journal.folder, "r1").dismiss()
    else:
        assert take_back(journal.folder, tmp_path / "resolv.conf") == []
    assert list(journal.folder.iterdir()) == []


def test_a_guard_of_an_earlier_run_leaves_it_alone(journal: Journal, tmp_path: Path) -> None:
    text = changed(journal.folder, tmp_path / "resolv.conf")
    journal.write(deed(tmp_path / "resolv.conf", run="r2"))
    assert undo(journal, run="r1") == []
    assert ((tmp_path / "resolv.conf").read_text(), journal.path.exists()) == (text, True)


def test_another_user_s_is_not_believed(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.write(deed(tmp_path / "resolv.conf"))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NoPermissionError, match=r"journal .*: user .* left it \(run resolverd cleanup as that user\)"):
        undo(journal)
    assert journal.path.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is damaged"),
        ("[]", "it is damaged"),
        ('{"version": 1}', "it is damaged"),
        ('{"version": 9, "run": "r", "what": "x"}', "another version of resolverd wrote it"),
        ('{"version": 1, "run": "r", "what": "x"}', "nobody knows how to undo x"),
    ],
)
def test_one_without_sense_is_said_and_kept(journal: Journal, content: str, why: str) -> None:
    journal.path.write_text(content)
    with pytest.raises(HostError, match=why):
        undo(journal)
    assert journal.path.read_text() == content


def test_a_link_in_its_place_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps({"version": 1, "run": "r", "what": RESOLV_CONF}))
    journal.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError):
        undo(journal)


def test_the_file_alone_is_enough(tmp_path: Path) -> None:
    """After a power failure the state directory, in memory, is gone."""
    file = tmp_path / "resolv.conf"
    changed(tmp_path / "gone", file)
    assert take_back(tmp_path / "gone", file) == [f"{file} put back"]
    assert (file.read_text(), take_back(tmp_path / "gone", file), restore(file)) == (THEIRS, [], [])


def test_a_start_takes_back_what_a_killed_one_left(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(host_facts, "RESOLV_CONF", file)
    changed(journal.folder, file)
    journal.write(deed(file))
    start._undo_leftovers(journal.folder)
    assert (file.read_text(), journal.path.exists()) == (THEIRS, False)
    assert f"a daemon was killed here: {file} put back" in caplog.text
    journal.path.write_text("nonsense")
    start._undo_leftovers(journal.folder)
    assert "it is damaged" in caplog.text, "no reason not to start"


def test_what_a_daemon_that_runs_has_done_stays(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    with StateDirectory(tmp_path / "other") as other:
        text = changed(other.path, file)
        with pytest.raises(HostError, match=rf"that runs .* \(resolverd down --state-dir {other.path}\)"):
            take_back(tmp_path / "mine", file)
        assert file.read_text() == text
    assert take_back(tmp_path / "mine", file) == [f"{file} put back"]
