"""Rows of tables: ages as kubectl shortens them, and what a row carries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from resolverd.demo.resources import SERVICES
from resolverd.demo.tables import age, is_wanted, table

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=-3), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(seconds=185), "3m5s"),
        (timedelta(minutes=10, seconds=5), "10m"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=59), "7h59m"),
        (timedelta(hours=47), "47h"),
        (timedelta(hours=48), "2d"),
    ],
)
def test_ages(ago: timedelta, shown: str) -> None:
    assert age((NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ"), NOW) == shown


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", True),
        ("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", False),
        ("", False),
    ],
)
def test_who_wants_a_table(accept: str, wanted: bool) -> None:
    assert is_wanted(accept) is wanted


def test_rows_carry_what_was_asked_for() -> None:
    metadata = {"name": "web", "resourceVersion": "7", "creationTimestamp": "2026-11-20T12:00:00Z"}
    web = {"metadata": metadata, "spec": {"type": "ExternalName", "externalName": "x.example"}, "status": {}}
    carried = {include: table(SERVICES, web, include)["rows"][0]["object"] for include in ("", "Object", "None")}
    assert carried["None"] is None
    assert carried["Object"]["spec"] == web["spec"]
    assert (carried[""]["kind"], set(carried[""])) == ("PartialObjectMetadata", {"kind", "apiVersion", "metadata"})
    shown = table(SERVICES, web, "")
    assert shown["rows"][0]["cells"][:5] == ["web", "ExternalName", "<none>", "x.example", "<none>"]
    assert [column["name"] for column in shown["columnDefinitions"] if column["priority"]] == ["Selector"]
