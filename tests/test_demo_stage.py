"""The stage: a host of its own, that leaves nothing on the one it is on.

Here the host is itself a stage, and the stages under test are inside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT, ResolvedService
from host_survey import killed_after, survey
from terminal import Terminal

from resolverd.demo import resolved, stage
from resolverd.errors import HostError, NoPermissionError

STAGE = [sys.executable, "-m", "resolverd.demo.stage"]
DEADLINE = 30.0


def on_stage(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*STAGE, *options, "--", "bash", "-c", script]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.staged
@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exec nothing", 127)]
)
def test_the_exit_code_is_the_commands(script: str, code: int) -> None:
    assert on_stage(script).returncode == code


@pytest.mark.staged
def test_a_command_that_does_not_exist_is_named() -> None:
    done = subprocess.run([*STAGE, "--", "no-such-program"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "resolverd: no-such-program: No such file or directory\n")


@pytest.mark.staged
def test_it_is_a_host_of_its_own_and_the_other_stays_as_it_was() -> None:
    before = survey()
    done = on_stage(
        """set -e
        ip -brief link; readlink /etc/resolv.conf; hostname other; resolvectl status
        rm -r /etc/passwd; touch /run/made-here /dev/shm/made-here; ip link set lo down
        [ -z "${LD_LIBRARY_PATH-}${http_proxy-}" ] && echo clean; ls /proc | grep -c '^[0-9]'"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lo "), "and no other link"
    for line in ("/run/systemd/resolve/stub-resolv.conf", "resolv.conf mode: stub", "clean"):
        assert line in done.stdout
    assert int(done.stdout.split()[-1]) < 10, "other processes are not seen"
    assert survey() == before


@pytest.mark.staged
def test_an_inner_stage_sees_the_outer_ones_temporary_files_and_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    done = on_stage(f'cat {tmp_path}/in; echo "$TMPDIR $RESOLVERD_STAGE"; echo back > {tmp_path}/out')
    assert done.stdout == "from outside\n/run/tmp-inner 1\n"
    assert (tmp_path / "out").read_text() == "back\n"


@pytest.mark.staged
@pytest.mark.parametrize("moment", [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.3, 0.45, 0.7])
def test_kill_9_at_any_moment_leaves_nothing(moment: float) -> None:
    before = survey()
    assert killed_after([*STAGE, "--internet", "--", "sleep", "600"], moment) == []
    assert survey() == before


@pytest.mark.staged
@pytest.mark.parametrize(("sent", "script", "code"), [
    (signal.SIGTERM, "trap 'exit 4' TERM", 4),
    (signal.SIGINT, "trap 'exit 5' INT", 5),
    (signal.SIGHUP, "trap '' HUP", 137),
])  # fmt: skip
def test_a_signal_reaches_the_command_and_one_that_will_not_end_is_ended(
    sent: signal.Signals, script: str, code: int
) -> None:
    wait = "echo ready; while :; do sleep 0.02; done"
    with subprocess.Popen(
        [*STAGE, "--", "bash", "-c", f"{script}; {wait}"], cwd=CHECKOUT, stdout=subprocess.PIPE
    ) as outermost:
        assert outermost.stdout
        assert outermost.stdout.readline() == b"ready\n"
        outermost.send_signal(sent)
        assert outermost.wait(DEADLINE) == code


@pytest.mark.staged
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of forkpty.*:DeprecationWarning")
def test_a_terminal_is_passed_through_with_job_control() -> None:
    terminal = Terminal([*STAGE, "--", "bash", "--norc", "--noediting", "-i"], PS1="prompt> ")
    terminal.wait_for("prompt> ")
    terminal.type("echo history=$HISTFILE\n")
    terminal.wait_for("history=/run/tmp-inner/")  # and not in the home folder
    terminal.type("tty; echo flags=$-\n")
    terminal.wait_for("/dev/pts/")
    terminal.wait_for("m")  # job control is on
    terminal.wait_for("prompt> ")
    terminal.type("sleep 600; echo after=$?\n")
    terminal.wait_for("sleep 600; echo after=$?")
    time.sleep(0.1)
    terminal.type("\x03")
    terminal.wait_for("prompt> ")
    terminal.type("sleep 600\n")
    terminal.wait_for("sleep 600")
    time.sleep(0.1)
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.type("kill %1; exit 5\n")
    terminal.wait_for("exit 5")
    terminal.type("exit 5\n")  # bash warns once while a job is stopped
    assert terminal.end() == 5


@pytest.mark.staged
def test_the_internet_answers_public_names_and_notes_what_it_was_asked() -> None:
    done = on_stage(
        """curl -s http://docs.rs/; getent ahostsv4 web.dev | head -n 1
        for name in nothing.local web.default.svc.cluster.local something.lan; do getent hosts $name; echo $?; done
        dig +tcp +noall +comments AAAA docs.rs @192.0.2.53 | grep -o 'status: [A-Z]*'
        cat /run/stage/internet.queries""",
        "--internet",
    )
    first, *rest = done.stdout.splitlines()
    assert first == "This is the stand-in for the internet, answering for docs.rs."
    assert rest[0].startswith("203.0.113.")
    assert rest[1:4] == ["2", "2", "2"]
    assert rest[4] == "status: NOERROR"
    assert {"A docs.rs", "AAAA docs.rs", "A web.dev"} <= set(rest[5:])


@pytest.mark.staged
def test_systemd_resolved_can_be_stopped_and_started(resolved_service: ResolvedService) -> None:
    before = resolved_service.pid
    resolved_service.restart()
    after = resolved_service.pid
    assert after != before
    assert not Path(f"/proc/{before}").exists()
    resolved_service.stop()
    assert subprocess.run(["resolvectl", "status"], capture_output=True, check=False).returncode != 0
    resolved_service.start()
    assert subprocess.run(["resolvectl", "status"], capture_output=True, check=False).returncode == 0


def test_without_root_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert stage.main(["--", "true"]) == NoPermissionError.code
    said = capsys.readouterr().err
    assert said.startswith("resolverd: private namespaces: ")
    assert said.count("\n") == 1


def test_a_missing_program_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(stage, "_search_path", lambda: "/nonexistent")
    with pytest.raises(HostError, match=r"dbus-daemon: not found .*apt-get install"):
        stage.check()


def test_a_missing_resolved_comes_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolved, "INSTALLED", ())
    monkeypatch.setenv("RESOLVERD_DEMO_RESOLVED", str(tmp_path))
    with pytest.raises(HostError, match=f"neither installed nor unpacked in {tmp_path}.*--fetch"):
        resolved.find()


@pytest.mark.parametrize("folder", ["lib/systemd", "usr/lib/systemd"])
def test_an_unpacked_copy_is_found_wherever_the_release_puts_it(tmp_path: Path, folder: str) -> None:
    private = tmp_path / "usr/lib/x86_64-linux-gnu/systemd"
    for path in (tmp_path / folder / "systemd-resolved", tmp_path / "usr/bin/resolvectl", private / "libsystemd.so"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = resolved.unpacked(tmp_path)
    assert found is not None
    assert found.daemon == tmp_path / folder / "systemd-resolved"
    assert found.environment() == {"LD_LIBRARY_PATH": str(private)}


def test_a_release_with_a_c_library_of_its_own_is_started_by_its_own_linker(tmp_path: Path) -> None:
    private, real = tmp_path / "usr/lib/x86_64-linux-gnu", next(Path("/").glob("lib*/ld-linux*.so.*"))
    for path in (tmp_path / "usr/lib/systemd/systemd-resolved", tmp_path / "usr/bin/resolvectl"):
        path.parent.mkdir(parents=True)
        path.write_bytes(Path("/bin/true").read_bytes())  # and not executable: its linker reads it
    for path in (private / "libc.so.6", tmp_path / "lib64" / real.name):
        path.parent.mkdir()
        path.symlink_to(next(real.resolve().parent.glob("libc.so.6")) if path.name == "libc.so.6" else real.resolve())
    found = resolved.unpacked(tmp_path)
    assert found is not None
    assert found.command(found.daemon)[:3] == (str(tmp_path / "lib64" / real.name), "--library-path", str(private))
    assert (found.environment(), found.missing_libraries()) == ({}, ())
    assert subprocess.run(found.command(found.resolvectl), check=False).returncode == 0
