"""Builds the sdist and the wheel and checks them, without a network: ``python scripts/check_dist.py [--keep DIR]``.

Checked: the metadata is valid and its description is the README; a wheel made from the sdist has the same files; the
wheel, installed in a virtual environment of its own, starts, and finds its data. What it depends on is borrowed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parents[1]
TRIED = (("version",), ("rbac", "--help"), ("completion", "fish"), ("demo", "--help"), ("config", "schema"))
"""Commands that must work in the new environment, besides ``install-service``."""


class UnfitError(Exception):
    """What is wrong with a distribution, in one line."""


def build(source: Path, target: str, folder: Path) -> Path:
    """The sdist or wheel made of ``source``."""
    run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)], source)
    return next(folder.glob("*.tar.gz" if target == "sdist" else "*.whl"))


def check_metadata(wheel: Path) -> None:
    """Raises ExceptionGroup where the metadata is not as the packaging standards want it."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(name), validate=True)
    if metadata.description_content_type != "text/markdown" or metadata.description != (ROOT / "README.md").read_text():
        raise UnfitError(f"{wheel.name}: its description is not README.md")


def check_sdist(sdist: Path, wheel: Path, folder: Path) -> None:
    """Whoever builds from the sdist gets the same."""
    with tarfile.open(sdist) as archive:
        # As the documentation of tarfile has it: Debian 12's Python 3.11.2 is older than the argument `filter`.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder)
    again = build(next(folder.iterdir()), "wheel", folder / "wheel")
    if differing := names(wheel) ^ names(again):
        raise UnfitError(f"{sdist.name}: its wheel differs in {', '.join(sorted(differing))}")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def check_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel, and nothing else, and run it from elsewhere."""
    venv.create(folder, with_pip=False)
    python, program = folder / "bin" / "python", folder / "bin" / "resolverd"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    run([*pip, "install", "--no-deps", "--no-index", str(wheel)], folder)
    borrowed = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    for words in (*TRIED, ("install-service", "--root", str(folder / "root"))):
        run([str(program), *words], folder, borrowed)
    if not (folder / "root" / "etc" / "systemd" / "system" / "resolverd.service").exists():
        raise UnfitError(f"{wheel.name}: install-service wrote no unit")
    where = run([str(python), "-c", "import resolverd_platform as p; print(p.__file__)"], folder, borrowed)
    if not where.startswith(str(folder)):
        raise UnfitError(f"{wheel.name}: {where.strip()} was tried instead")


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing was said"]
        raise UnfitError(f"{' '.join(command[-3:])}: exit code {done.returncode}: {said[0]}")
    return done.stdout


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="check_dist.py", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the two there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="resolverd-dist-") as scratch:
        folder = Path(scratch).resolve()
        made = (options.keep or folder / "dist").absolute()
        for old in (*made.glob("resolverd-*.whl"), *made.glob("resolverd-*.tar.gz")):
            old.unlink()
        try:
            sdist, wheel = build(ROOT, "sdist", made), build(ROOT, "wheel", made)
            check_metadata(wheel)
            check_sdist(sdist, wheel, folder / "from-sdist")
            check_installed(wheel, folder / "venv")
        except (UnfitError, ExceptionGroup) as error:
            print(f"check_dist: {error}", file=sys.stderr)
            return 1
        print(f"{sdist.name} and {wheel.name}: sound")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
