"""The documents and the code say the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from resolverd.settings import Settings

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("section", [field.name for field in dataclasses.fields(Settings)])
def test_every_option_is_documented_and_nothing_else(section: str) -> None:
    text = (ROOT / "docs" / "options.md").read_text()
    part = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", part, re.MULTILINE))
    options = dataclasses.fields(getattr(Settings(), section))
    assert documented == {option.name.replace("_", "-") for option in options}
    assert all(option.metadata["help"] for option in options)


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"], ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
