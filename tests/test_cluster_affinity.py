"""Clients that keep their pod: how many of them are remembered."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from resolverd.cluster import affinity
from resolverd.cluster.affinity import Affinity, Session
from resolverd.cluster.target import Target

FIRST, SECOND, THIRD = (Session(("shop", "web"), 80, ip_address(f"198.18.53.{n}")) for n in range(1, 4))
POD = Target("shop", "web-1", 8080)


def test_the_one_longest_without_a_connection_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "MOST", 2)
    choices = Affinity()
    for session in (FIRST, SECOND, FIRST, THIRD):
        choices.keep(session, POD, until=60)
    assert [choices.chosen(session, now=0) for session in (FIRST, SECOND, THIRD)] == [POD, None, POD]


def test_each_port_and_each_client_is_a_choice_of_its_own() -> None:
    choices = Affinity()
    choices.keep(FIRST, POD, until=60)
    assert choices.chosen(FIRST, now=59.9) == POD
    assert choices.chosen(FIRST._replace(port=81), now=0) is None
    assert choices.chosen(SECOND, now=0) is None
    assert FIRST.turn == FIRST._replace().turn != SECOND.turn
