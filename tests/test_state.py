"""The state directory: one daemon at a time, and nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from resolverd import state
from resolverd.errors import HostError


def test_a_folder_we_made_goes_with_us(tmp_path: Path) -> None:
    with state.StateDirectory(tmp_path / "run") as ours:
        ours.socket.touch()
    assert not (tmp_path / "run").exists()


def test_a_folder_with_somebody_else_s_files_stays(tmp_path: Path) -> None:
    with state.StateDirectory(tmp_path / "run") as ours:
        (ours.path / "theirs").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["theirs"]


def test_two_at_once_are_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    with state.StateDirectory(tmp_path) as first:
        first.socket.touch()
        with pytest.raises(HostError, match=f"process {os.getpid()} holds"), state.StateDirectory(tmp_path):
            pass
        with pytest.raises(HostError, match="running already"):
            state.forget(tmp_path)
        assert first.socket.exists()


def test_what_a_killed_daemon_left_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (state.SOCKET, state.LOG, state.LOCK):
        (folder / name).touch()
    (folder / "scratch-x").mkdir()
    (folder / "scratch-x" / "key.pem").touch()
    assert state.forget(folder) == [state.SOCKET, state.LOG]
    assert not folder.exists()
    assert state.forget(folder) == []


KILLED = """\
import os, signal, sys, time
from pathlib import Path
from resolverd.state import StateDirectory

StateDirectory(Path(sys.argv[1])).__enter__()
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(float(sys.argv[2]))
"""


def killed_with_a_child_that_lives(folder: Path, seconds: float) -> int:
    """The process id of a daemon that was killed, while a process it had started has its lock."""
    path = {"PYTHONPATH": str(Path(state.__file__).parents[1])}
    daemon = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(seconds)], env=path)
    assert daemon.wait() == -signal.SIGKILL
    return daemon.pid


def test_who_comes_after_a_killed_one_waits_for_what_that_had_started(tmp_path: Path) -> None:
    killed_with_a_child_that_lives(tmp_path, 0.5)
    began = time.monotonic()
    with state.StateDirectory(tmp_path):
        assert time.monotonic() - began > 0.2


def test_what_never_ends_is_waited_for_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ENDING", 0.2)
    daemon = killed_with_a_child_that_lives(tmp_path, 2)
    with pytest.raises(HostError, match=f"not over yet: process {daemon} was killed"), state.StateDirectory(tmp_path):
        pass


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="too long"), state.StateDirectory(tmp_path / ("x" * 100)):
        pass


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert state.folder("", {"XDG_RUNTIME_DIR": "/run/user/1000"}) == Path("/run/user/1000/resolverd")
    with pytest.raises(HostError, match="XDG_RUNTIME_DIR"):
        state.folder("", {})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert state.folder("", {}) == Path("/run/resolverd")


def test_a_user_without_a_daemon_talks_to_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system, settings = (
        tmp_path / "1000" / "resolverd",
        tmp_path / "run",
        {"XDG_RUNTIME_DIR": str(tmp_path / "1000")},
    )
    own.mkdir(parents=True)
    system.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state.of_daemon("", settings, system) == own
    with pytest.raises(HostError, match="XDG_RUNTIME_DIR"):
        state.of_daemon("", {}, system)
    (system / state.SOCKET).touch()
    assert state.of_daemon("", settings, system) == system
    assert state.of_daemon("", {}, system) == system
    assert state.of_daemon("/named", settings, system) == Path("/named")
    (own / state.SOCKET).touch()
    assert state.of_daemon("", settings, system) == own


def test_it_is_never_held_twice_however_it_comes_and_goes(tmp_path: Path) -> None:
    holders, most, entered = 0, 0, 0
    counting = threading.Lock()

    def come_and_go() -> None:
        nonlocal holders, most, entered
        for _ in range(200):
            with contextlib.suppress(HostError), state.StateDirectory(tmp_path):
                with counting:
                    holders, entered = holders + 1, entered + 1
                    most = max(most, holders)
                with counting:
                    holders -= 1

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert entered > 0
