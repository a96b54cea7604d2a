"""What the tunnel process looks after when the network has changed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from resolverd_tunnel.worker import Tunnel


def test_an_error_of_one_look_does_not_put_off_the_other(caplog: pytest.LogCaptureFixture) -> None:
    failing = Mock(side_effect=OSError(5, "Input/output error"))
    parts = {"_finder": Mock(), "_inside": Mock(look=failing), "_routes": Mock()}
    with caplog.at_level(logging.ERROR):
        Tunnel._on_network_change(cast(Tunnel, SimpleNamespace(**parts)))
    parts["_finder"].hurry.assert_called_once_with()
    parts["_routes"].look.assert_called_once_with()
    assert [record.getMessage() for record in caplog.records] == ["following the host's links: Input/output error"]
