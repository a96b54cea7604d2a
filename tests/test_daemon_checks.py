"""When the daemon calls itself degraded because of the tunnel."""

from __future__ import annotations

import pytest

from resolverd.health import of_tunnel


@pytest.mark.parametrize(
    ("state", "ok"),
    [("ready", True), ("starting", True), ("the API server does not answer within 2.5 s", False), ("", False)],
)
def test_what_the_tunnel_says_of_itself_decides(state: str, ok: bool) -> None:
    check = of_tunnel(state)
    assert (check.ok, check.detail) == (ok, state)
    assert check.fix
