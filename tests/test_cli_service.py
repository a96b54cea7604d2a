"""``install-service`` and ``uninstall-service`` below a folder, and what the files say."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from resolverd.cli.commands import cli
from resolverd.errors import HostError, UsageError
from resolverd_platform import service
from resolverd_platform.service import MARKER, Service, Step, carry_out, install_plan, removal_plan

UNIT = Path("etc/systemd/system/resolverd.service")
RULES = Path("etc/polkit-1/rules.d/50-resolverd.rules")
PROGRAM = ("/usr/bin/python3", "-P", "-m", "resolverd")


def resolverd(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=False)


def files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if not path.is_dir()}


def lines(root: Path) -> list[str]:
    return (root / UNIT).read_text().splitlines()


def put(plan: tuple[Step, ...]) -> None:
    for step in plan:
        carry_out(step)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = resolverd("install-service", "--dry-run", "--group", "adm", "--root", str(tmp_path))
    assert f"would write {tmp_path / UNIT}\nwould write {tmp_path / RULES}\n" in done.output
    assert files(tmp_path) == set()


def test_installing_twice_changes_nothing_and_uninstalling_leaves_nothing(tmp_path: Path) -> None:
    arguments = ("install-service", "--group", "adm", "--user", "alice", "--root", str(tmp_path))
    assert "systemctl daemon-reload" not in resolverd(*arguments).output, "nobody's systemd reads that folder"
    before = {path: (tmp_path / path).stat() for path in files(tmp_path)}
    assert set(before) == {UNIT, RULES}
    assert f"{tmp_path / UNIT} is as it should be\n" in resolverd(*arguments).output
    assert {path: (tmp_path / path).stat() for path in files(tmp_path)} == before
    said = resolverd("uninstall-service", "--dry-run", "--root", str(tmp_path)).output
    assert f"would remove {tmp_path / UNIT}" in said
    assert files(tmp_path) == set(before)
    resolverd("uninstall-service", "--root", str(tmp_path))
    assert files(tmp_path) == set()
    assert resolverd("uninstall-service", "--root", str(tmp_path)).output == "nothing of resolverd's is installed\n"


def test_without_a_group_the_rule_that_was_there_goes(tmp_path: Path) -> None:
    put(install_plan(Service(PROGRAM, group="adm"), tmp_path, "linux"))
    put(install_plan(Service(PROGRAM), tmp_path, "linux"))
    assert files(tmp_path) == {UNIT}
    assert "Group=root" in lines(tmp_path)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / UNIT
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("[Service]\nExecStart=/bin/true\n")
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(HostError, match="not of resolverd's making"):
        resolverd("install-service", "--root", str(tmp_path))
    resolverd("uninstall-service", "--root", str(tmp_path))
    assert files(tmp_path) == {UNIT}


@pytest.mark.parametrize("name", ["alice\nExecStartPre=/bin/sh", "a b", "", '"); x("'])
def test_no_name_can_add_a_line(name: str) -> None:
    with pytest.raises(UsageError, match="is no name of an account"):
        Service(PROGRAM, user=name)
    with pytest.raises(UsageError, match="is no name of an account"):
        Service(PROGRAM, group=name or "\n")


def test_a_path_is_taken_literally(tmp_path: Path) -> None:
    odd = '/srv/my "files"/50%/$HOME\\x'
    put(install_plan(Service(PROGRAM, ("--config", odd)), tmp_path, "linux"))
    (start,) = [line for line in lines(tmp_path) if line.startswith("ExecStart=")]
    assert start == ('ExecStart=/usr/bin/python3 -P -m resolverd run --config "/srv/my \\"files\\"/50%%/$$HOME\\\\x"')
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        install_plan(Service(PROGRAM, ("--config", "/a\nb")), tmp_path, "linux")


def test_nothing_of_a_template_is_left_open(tmp_path: Path) -> None:
    for system in ("linux", "darwin"):
        put(install_plan(Service(PROGRAM, group="adm"), tmp_path, system))
    assert len(files(tmp_path)) == len(list(service.units().iterdir()))
    for path in files(tmp_path):
        content = (tmp_path / path).read_bytes()
        assert MARKER in content
        assert not re.search(rb"@[A-Z]+@", content)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    put(install_plan(Service(("/bin/true",), ("--config", "/a b")), tmp_path, "linux"))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "resolverd.service" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_launchd_can_read_its_file(tmp_path: Path) -> None:
    put(install_plan(Service(PROGRAM, ("--config", "/a&<b>"), user="alice"), tmp_path, "darwin"))
    content = plistlib.loads((tmp_path / "Library/LaunchDaemons/io.resolverd.daemon.plist").read_bytes())
    assert content["ProgramArguments"] == [*PROGRAM, "run", "--config", "/a&<b>"]
    assert (content["EnvironmentVariables"]["SUDO_USER"], content["KeepAlive"]) == ("alice", {"SuccessfulExit": False})
    assert len(removal_plan(tmp_path, "darwin")) == 1


def test_what_is_installed_on_this_machine_needs_accounts_of_this_machine() -> None:
    with pytest.raises(HostError, match="nobody-of-that-name"):
        resolverd("install-service", "--dry-run", "--user", "nobody-of-that-name")
