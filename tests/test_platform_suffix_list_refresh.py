"""Bundling another public suffix list: from a file here, never over the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resolverd.errors import HostError, UsageError
from resolverd_platform import suffix_list, suffix_list_refresh
from resolverd_platform.suffix_list import BUNDLED, icann_rules, known_files
from resolverd_platform.suffix_list_refresh import condensed, main, refresh

WHOLE = next(path for path in known_files() if "publicsuffixlist" in path.parts)


def test_all_that_matters_is_kept_and_no_more(tmp_path: Path) -> None:
    target = tmp_path / "list.dat"
    made = refresh(str(WHOLE), target)
    assert made == suffix_list.newest([target])
    text, whole = target.read_text(), WHOLE.read_text()
    assert list(icann_rules(text)) == list(icann_rules(whole))
    assert len(text) < len(whole) / 2
    assert "Mozilla Public" in text
    assert [path.name for path in tmp_path.iterdir()] == ["list.dat"]


def test_the_bundled_list_says_its_licence_and_its_version() -> None:
    text = BUNDLED.read_text()
    assert "https://mozilla.org/MPL/2.0/" in text
    assert "// VERSION: " in text
    assert condensed(text) == text


def _cut_off(text: str) -> str:
    start = text.index(suffix_list.BEGIN)
    return text[: start + 3000] + "\n" + suffix_list.END


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda _: "<html>sign in to the hotel's network</html>", "no ICANN section"),
        (_cut_off, "rules are too few"),
        (lambda text: text.replace("// VERSION: ", "// "), "does not say its version"),
        (lambda text: text.replace("// VERSION: 20", "// VERSION: 19"), "is older than what we have"),
    ],
)
def test_what_is_no_good_list_changes_nothing(tmp_path: Path, spoil: Callable[[str], str], why: str) -> None:
    source, target = tmp_path / "source.dat", tmp_path / "list.dat"
    target.write_text(BUNDLED.read_text())
    source.write_text(spoil(WHOLE.read_text()))
    with pytest.raises(UsageError, match=why):
        refresh(str(source), target)
    assert target.read_text() == BUNDLED.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.dat", "source.dat"]


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--from", str(tmp_path / "absent.dat")]) == HostError("", "").code
    assert capsys.readouterr().err.startswith("resolverd: public suffix list: ")
    monkeypatch.setattr(suffix_list_refresh, "refresh", lambda source: suffix_list.ListFile(Path(source), "2026-10-22"))
    assert main(["--from", "x.dat"]) == 0
    assert capsys.readouterr().out == "x.dat: 2026-10-22\n"
