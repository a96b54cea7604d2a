"""The checkout, its lock file and the wheel made from it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"resolverd", "resolverd_platform", "resolverd_tunnel"}


def test_our_platform_folder_does_not_hide_the_standard_librarys() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tunnel" / "__init__.py").exists()
    command = [sys.executable, "-c", "import platform; print(platform.__file__, platform.system())"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert Path(found.split()[0]).parent == Path(re.__file__).parents[1]


def lock_entries() -> list[str]:
    """The requirements of the lock file, each with its continuation lines."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_every_locked_package_has_one_version_and_its_hashes() -> None:
    entries = lock_entries()
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


def test_the_lock_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--(extra-)?index-url|--find-links|--trusted-host)", text, re.MULTILINE)


def test_everything_that_is_installed_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {entry.partition("==")[0] for entry in lock_entries()}
    wanted = {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in named}  # type: ignore[index]
    assert wanted <= locked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel built from this checkout; hatchling needs no network for it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == PACKAGES


def test_the_wheel_has_every_module_and_the_data_beside_them(wheel: set[str]) -> None:
    folders = {ROOT / "resolverd", ROOT / "platform" / "resolverd_platform", ROOT / "tunnel" / "resolverd_tunnel"}
    files = [(folder.parent, path) for folder in folders for path in folder.rglob("*") if path.is_file()]
    expected = {str(path.relative_to(parent)) for parent, path in files if "__pycache__" not in path.parts}
    assert "resolverd/demo/objects/samples/shop.yaml" in expected
    assert expected <= wheel


def test_the_wheel_has_the_units_beside_the_module_that_reads_them(wheel: set[str]) -> None:
    units = {f"resolverd_platform/units/{path.name}" for path in (ROOT / "platform" / "units").iterdir()}
    assert "resolverd_platform/units/resolverd.service" in units
    assert units <= wheel


def test_the_wheel_has_the_command_and_the_licence(wheel: set[str]) -> None:
    assert {name.partition(".dist-info/")[2] for name in wheel} >= {"entry_points.txt", "licenses/LICENSE", "METADATA"}


def test_what_runs_in_ci_is_what_runs_here() -> None:
    script = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert script[-1] == "make test"
    assert [line for line in script if "make" in line] == ["make test"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
