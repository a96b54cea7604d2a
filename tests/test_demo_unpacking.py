"""Packages that are unpacked instead of installed: with what this machine lacks, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from resolverd.demo import unpacking
from resolverd.demo.unpacking import Wanted
from resolverd.errors import HostError

DOUBLES = {
    # The package of the last argument, if there is one of that name; "absent" is not known.
    "apt-get": 'for name in "$@"; do case $name in absent) echo "E: Unable to locate package" >&2; exit 100;;'
    ' -*|*:*|*=*|download) ;; *) echo "$name" > "$name.deb";; esac; done',
    "dpkg-deb": 'name=$(cat "$2"); case $1 in --extract) echo "$name" > "$3/$name";;'
    ' --field) [ "$name" != server ] || echo "libold, libnew (>= 1) | libother, libhuge, adduser";; esac',
    "dpkg-query": 'echo "installed libold"',
}


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in DOUBLES.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def wanting(*libraries: str, package: str = "server") -> Wanted:
    def missing(tree: Path) -> Sequence[str]:
        return [name for name in libraries if not (tree / name).exists()]

    return Wanted("the server", (package,), missing, frozenset({"libhuge"}))


def test_what_this_machine_lacks_comes_along_and_no_more(tmp_path: Path) -> None:
    unpacking.fetch(wanting("libnew"), tmp_path / "root")
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["libnew", "libother", "server"]


@pytest.mark.parametrize(
    ("wanted", "words"), [(wanting("libnowhere"), "needs libnowhere"), (wanting(package="absent"), "Unable to locate")]
)
def test_a_failure_leaves_what_was_there(tmp_path: Path, wanted: Wanted, words: str) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(HostError, match=words):
        unpacking.fetch(wanted, tmp_path / "root")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "root"]
    assert list((tmp_path / "root").iterdir()) == []


def test_without_apt_there_is_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="install the server"):
        unpacking.fetch(wanting(), tmp_path / "root")
