"""The public suffix list: the newest one is found, and it says what the public uses."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from resolverd.errors import HostError, UsageError
from resolverd_platform import suffix_list
from resolverd_platform.suffix_list import BUNDLED, ListFile, PublicSuffixes, known_files, load, newest

LIST = """\
// {version}
// ===BEGIN ICANN DOMAINS===
rs
*.ck
!www.ck
公司.cn
// ===END ICANN DOMAINS===
// ===BEGIN PRIVATE DOMAINS===
private
// ===END PRIVATE DOMAINS===
"""


def written(folder: Path, name: str, version: str = "", day: str = "2020-01-01") -> Path:
    path = folder / name
    path.write_text(LIST.format(version=version and f"VERSION: {version}_08-36-41_UTC"), encoding="utf-8")
    seconds = int(subprocess.check_output(["date", "-u", "-d", day, "+%s"]))
    os.utime(path, (seconds, seconds))
    return path


@pytest.fixture(scope="module")
def suffixes() -> PublicSuffixes:
    return load()


@pytest.mark.parametrize("name", ["com", "rs", "web", "dev", "shop", "ck", "mm", "xn--p1ai", "co.uk"])
def test_the_publics_names(suffixes: PublicSuffixes, name: str) -> None:
    assert name in suffixes


@pytest.mark.parametrize(
    "name", ["default", "kube-system", "billing", "svc", "local", "cluster.local", "github.io", "zz", "", "."]
)
def test_names_the_public_does_not_use(suffixes: PublicSuffixes, name: str) -> None:
    assert name not in suffixes


def test_the_newest_list_of_this_machine_is_taken(suffixes: PublicSuffixes) -> None:
    each = [found for path in known_files() if (found := newest([path]))]
    assert len(each) > 1
    assert BUNDLED in {found.path for found in each}
    assert suffixes.source == max(each, key=lambda found: found.dated)


def test_only_the_icann_section_counts(tmp_path: Path) -> None:
    found = load("auto", [written(tmp_path, "list.dat")])
    assert [name for name in ("rs", "ck", "xn--55qx5d.cn", "www.ck", "private") if name in found] == [
        "rs",
        "ck",
        "xn--55qx5d.cn",
    ]


def test_a_list_is_as_old_as_it_says_else_as_its_neighbour_says_else_as_its_file(tmp_path: Path) -> None:
    by_file = written(tmp_path, "file.dat", day="2023-02-09")
    by_version = written(tmp_path, "version.dat", "2024-05-06", day="2026-01-01")
    by_about = written(tmp_path, "about.dat", day="2026-01-01")
    by_about.with_suffix(".ABOUT").write_text("name: List\nversion: 2019-12-21T11:10:15\n")
    files = [by_file, by_version, by_about]
    assert [found.dated for path in files if (found := newest([path]))] == ["2023-02-09", "2024-05-06", "2019-12-21"]
    chosen = newest([tmp_path / "absent.dat", *files])
    assert chosen is not None
    assert chosen.path == by_version


def test_a_release_that_does_not_say_its_day_is_as_old_as_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "publicsuffixlist"
    folder.mkdir()
    path = written(folder, "public_suffix_list.dat", day="2026-11-01")
    for release, day in (("1.0.2.20240208", "2024-02-08"), ("2.0", "2026-11-01")):
        monkeypatch.setattr(suffix_list, "version", lambda _, release=release: release)
        found = newest([path])
        assert found is not None
        assert found.dated == day


def test_a_day_that_is_none_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path, "x.dat", "2026-02-30", day="2021-05-06")
    assert load(str(path)).source.dated == "2021-05-06"
    path.with_suffix(".ABOUT").write_text("version: 2026-13-01\n")
    found = newest([path])
    assert found is not None
    assert found.age(date(2021, 5, 8)) == 2


def test_how_old_a_list_is_is_shown() -> None:
    found = ListFile(Path("/list.dat"), "2026-10-22")
    assert found.to_json(date(2026, 11, 21)) == {"path": "/list.dat", "dated": "2026-10-22", "days": 30}
    assert found.age(date(2026, 1, 1)) == 0


@pytest.mark.parametrize(
    "name", ["bd", "ck", "er", "fk", "jm", "kh", "mm", "np", "pg", "web", "hotel", "merck", "co.uk"]
)
def test_the_bundled_list_alone_would_do(name: str) -> None:
    bundled = load(str(BUNDLED))
    assert name in bundled
    assert "github.io" not in bundled


def test_the_users_own_file_wins_or_is_refused(tmp_path: Path) -> None:
    mine = written(tmp_path, "mine.dat")
    assert load(str(mine)).source.path == mine
    (tmp_path / "empty.dat").write_text("rs\n")
    for name, why in (("absent.dat", "No such file"), ("empty.dat", "no ICANN section")):
        with pytest.raises(UsageError, match=rf"dns.suffix-list: .*{name}.*{why}"):
            load(str(tmp_path / name))


def test_a_newer_file_that_is_no_list_is_passed_over(tmp_path: Path) -> None:
    good = written(tmp_path, "good.dat", "2024-05-06")
    torn = tmp_path / "torn.dat"
    torn.write_text("// VERSION: 2026-05-06\nrs\n")
    assert load("auto", [torn, good]).source.path == good


def test_without_any_list_there_is_no_filter_and_no_start(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="public suffix list: there is none on this machine"):
        load("auto", [tmp_path / "absent.dat"])


def test_finding_costs_no_import_of_the_parser() -> None:
    look = "import resolverd_platform.suffix_list as s; s.newest(s.known_files())"
    code = f"{look}; import sys; print('publicsuffix2' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "False\n"
