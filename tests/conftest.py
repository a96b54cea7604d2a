"""What every test may use: the ``staged`` mark, and the resolver of the stage."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

CHECKOUT = Path(__file__).parents[1]
IN_STAGE = "RESOLVERD_STAGE" in os.environ
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # how busy the machine is says nothing of the code


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "staged: needs root in private namespaces (make test runs everything in them)")
    # A shell starts what runs in the background of a script with both ignored, and all that we start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


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


SYSTEM_GI = Path("/usr/lib/python3/dist-packages/gi")
"""Debian's PyGObject (python3-gi), which an interpreter of the same version can load. There are no wheels of it."""


@pytest.fixture(scope="session")
def pydbus_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What to add to ``PYTHONPATH`` for pydbus: nothing, or a folder with the system's PyGObject and nothing else."""
    folder = tmp_path_factory.mktemp("gi")
    (folder / "gi").symlink_to(SYSTEM_GI)
    for path in ("", str(folder)):
        command = [sys.executable, "-c", "import pydbus; from gi.repository import Gio"]
        tried = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
        if tried.returncode == 0:
            return path
    pytest.skip("no pydbus: it needs PyGObject, as python3-gi for this Python version or in the virtual environment")


@pytest.fixture
def pydbus_loaded(pydbus_path: str) -> Iterator[None]:
    """pydbus can be imported; Python's warnings about its age are not ours."""
    import warnings

    if pydbus_path and pydbus_path not in sys.path:
        sys.path.append(pydbus_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("pydbus")
        yield
