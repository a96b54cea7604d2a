"""docs/options.md and the settings say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from resolverd.config import extensions
from resolverd.config.known import SECTIONS, written
from resolverd.reload import AT_ONCE

PAGE = (Path(__file__).parent.parent / "docs" / "options.md").read_text()


def rows(section: str) -> dict[str, tuple[str, object, str]]:
    """Type, default and meaning of each key in the section's table."""
    part = PAGE.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| `(.+?)` \| (.+?) \|$", part, re.MULTILINE)
    return {key: (kind, yaml.safe_load(default), meaning) for key, kind, default, meaning in found}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_its_type_its_default_and_a_line(section: str) -> None:
    table = rows(section)
    assert list(table) == list(SECTIONS[section])
    for key, known in SECTIONS[section].items():
        assert table[key][:2] == (known.check.kind, written(known.default)), key


def test_the_page_names_what_is_taken_at_once_and_the_keys_of_the_extension() -> None:
    text = " ".join(PAGE.split())
    said = re.search(r"These are taken at once: (.*?)\. The others wait", text)
    assert said
    sections, _, rest = said[1].partition(" except ")
    exceptions, _, more = rest.partition(", and ")
    everything = {f"{name}.{key}" for name in re.findall("`(.+?)`", sections) for key in SECTIONS[name]}
    assert everything - set(re.findall("`(.+?)`", exceptions)) | set(re.findall("`(.+?)`", more)) == AT_ONCE
    keys = re.search(r"Keys: (.*?)\. Of several", text)
    assert keys
    assert re.findall("`(.+?)`", keys[1]) == list(extensions.KEYS)
