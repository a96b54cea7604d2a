"""What every test may use: the ``staged`` mark, and the resolver of the stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
IN_STAGE = "RESOLVERD_STAGE" in os.environ


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "staged: needs root in private namespaces (make test runs everything in them)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if IN_STAGE:
        return
    outside = pytest.mark.skip(reason="outside a stage: python -m resolverd.demo.stage -- pytest")
    for item in items:
        if item.get_closest_marker("staged"):
            item.add_marker(outside)


class ResolvedService:
    """The stage's systemd-resolved, to stop and start as systemd would."""

    def stop(self) -> None:
        self._run("stop")

    def start(self) -> None:
        self._run("start")

    def restart(self) -> None:
        self._run("restart")

    @property
    def pid(self) -> int:
        return int(Path("/run/stage/resolved.pid").read_text())

    def _run(self, verb: str) -> None:
        subprocess.run([sys.executable, "-m", "resolverd.demo.services", verb], cwd=CHECKOUT, check=True, timeout=30)


@pytest.fixture
def resolved_service() -> ResolvedService:
    """Only in tests marked ``staged``. A test that stops it starts it again."""
    return ResolvedService()
