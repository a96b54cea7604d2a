"""Maintainers: fetch the newest public suffix list and bundle its ICANN section (``make suffix-list``).

``python -m resolverd_platform.suffix_list_refresh [--from publicsuffix.org|pypi|FILE]``

The whole ICANN section is kept, not the TLDs alone: a namespace is one label, but an include or a cluster domain may
be ``co.uk``. Without comments and the private section it is a third of the list, and it has the list's own format, so
that there is one reader for all lists. The list is under the Mozilla Public License 2.0, which the copy says.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from resolverd.errors import HostError, ResolverdError, UsageError

from . import suffix_list

ORIGIN = "https://publicsuffix.org/list/public_suffix_list.dat"
PACKAGE = suffix_list.PACKAGES[0]
DEADLINE = 60.0
"""Seconds for the way over the network."""
FEWEST = 5000
"""Rules that an ICANN section has at least (6,900 in 2026): less is a page of another kind, or cut off."""
_SAID = re.compile(r"^// (?:VERSION|COMMIT): .*$", re.MULTILINE)
_HEAD = """\
// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// The ICANN section of https://publicsuffix.org/list/public_suffix_list.dat
// without its comments, by resolverd_platform.suffix_list_refresh.

"""


def condensed(text: str) -> str:
    """What is bundled of a whole list. ValueError when it is none, is cut off, or does not say its version."""
    said = _SAID.findall(text)
    rules = list(suffix_list.icann_rules(text))
    if not any("VERSION" in line for line in said):
        raise ValueError("it does not say its version")
    if len(rules) < FEWEST:
        raise ValueError(f"{len(rules)} rules are too few")
    return _HEAD + "\n".join([*said, "", suffix_list.BEGIN, *rules, suffix_list.END, ""])


def fetched(source: str) -> str:
    """A whole list: from its home, from the newest release of ``publicsuffixlist`` on PyPI, or from a file.

    HostError when it cannot be had.
    """
    try:
        if source == "publicsuffix.org":
            with urllib.request.urlopen(ORIGIN, timeout=DEADLINE) as answer:
                return str(answer.read().decode())
        if source == "pypi":
            return _from_package()
        return Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise HostError("public suffix list", f"{source}: {error}", "--from pypi, or --from FILE") from error


def _from_package() -> str:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", folder, PACKAGE], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"{PACKAGE}/{suffix_list.BUNDLED.name}").decode()


def refresh(source: str, target: Path = suffix_list.BUNDLED) -> suffix_list.ListFile:
    """Write the list from ``source`` to ``target``, unless what is there is newer. ResolverdError; then nothing is."""
    try:
        text = condensed(fetched(source))
    except ValueError as error:
        raise UsageError("public suffix list", f"{source}: {error}", "name another source") from error
    fresh = target.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    try:
        before, after = suffix_list.newest([target]), suffix_list.load(str(fresh)).source
        if before and before.dated > after.dated:
            raise UsageError("public suffix list", f"{source}: {after.dated} is older than what we have", "keep ours")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return suffix_list.ListFile(target, after.dated)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m resolverd_platform.suffix_list_refresh")
    parser.add_argument("--from", dest="source", default="publicsuffix.org", help="publicsuffix.org, pypi, or a file")
    try:
        made = refresh(parser.parse_args(arguments).source)
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return int(error.code)
    print(f"{made.path}: {made.dated}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
