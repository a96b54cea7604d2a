"""Two who start a daemon in one state directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from resolverd import state
from resolverd.cli import background
from resolverd.errors import HostError


def test_the_second_leaves_the_log_of_the_first_alone(tmp_path: Path) -> None:
    log = tmp_path / state.LOG
    log.write_text("resolverd: what the first one's daemon has said\n")
    with (
        state.starting(tmp_path),
        pytest.raises(HostError, match="starting already: somebody else starts a daemon"),
        background._daemon(tmp_path, "", {}),
    ):
        pass
    assert log.read_text() == "resolverd: what the first one's daemon has said\n"
