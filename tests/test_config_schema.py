"""The JSON Schema and the checks say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolverd import config
from resolverd.config.document import AbsentError, read_text
from resolverd.config.known import KNOWN, SECTIONS, written
from resolverd.config.schema import schema
from resolverd.settings import Mapping

VALIDATOR = jsonschema.Draft202012Validator(schema())

TEXTS = (
    "|auto|5|5s|500ms|1m30s|1h|.com|a.b.|.A_b|10.0.0.0/8|10.0.0.1/8|10.0.0.0/255.0.0.0|10.0.0.1|::1|fe80::1%eth0|shop|Shop"
    "|127.0.0.1:53|[::1]:53|[::1]53|9.9.9.9:70000|none|info|port-forward|resolved|verified"
)
LIKELY = st.sampled_from([*TEXTS.split("|"), "x" * 64, 0, 1, 5, 2.5, 4000, -1, True, False, None])
PAIR = st.fixed_dictionaries({}, optional={"name": LIKELY, "alias-for": LIKELY, "aliasFor": LIKELY})
VALUE = st.one_of(
    LIKELY,
    st.text(st.characters(exclude_characters="\n"), max_size=5),
    st.lists(st.one_of(LIKELY, PAIR), max_size=3),
    PAIR,
)
NO_MAPPING: st.SearchStrategy[Any] = st.sampled_from([None, 1, []])
SECTION: dict[str, st.SearchStrategy[Any]] = {
    name: st.one_of(st.dictionaries(st.sampled_from([*keys, "typo"]), VALUE, max_size=4), NO_MAPPING)
    for name, keys in SECTIONS.items()
}
DOCUMENT = st.one_of(st.fixed_dictionaries({}, optional={**SECTION, "typo": LIKELY}), st.sampled_from([None, [], 7]))

INCOMPARABLE = ("is not between", "is not a whole number", "host bits set", "is no CIDR", "is no DNS server")
PLUGGABLE = ("is none of auto, systemd-resolved", "is none of auto, port-forward")
BY_MEANING = (
    *(*INCOMPARABLE, *PLUGGABLE),
    *("is no ADDR:PORT", "is neither a domain name nor an IP address", "is not on loopback"),
    *("is there twice", "is no name for a device"),
)
"""What a schema cannot say: durations and addresses compared, and which plugins are installed."""


def checked(folder: Path, document: Any) -> tuple[str, ...]:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    return tuple(mistake.what for mistake in config.read(str(file), {}, {"HOME": str(folder)})[1])


def accepted(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema())) == schema()
    assert all(part["description"] for one in schema()["properties"].values() for part in one["properties"].values())


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(document=DOCUMENT)
def test_schema_and_checks_agree(tmp_path: Path, document: Any) -> None:
    mistakes = checked(tmp_path, document)
    if accepted(document):
        assert all(any(why in mistake for why in BY_MEANING) for mistake in mistakes)
    else:
        assert mistakes


@pytest.mark.parametrize("name", KNOWN)
def test_a_default_is_accepted_as_it_is_written(tmp_path: Path, name: str) -> None:
    known = KNOWN[name]
    document = {known.section: {known.key: written(known.default)}}
    assert accepted(document)
    assert checked(tmp_path, document) == ()
    assert known.check(written(known.default)) == known.default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dns.ttl", "5x"),
        ("dns.ttl", 3601),
        ("dns.search", "shop"),
        ("dns.exclude-suffixes", ["."]),
        ("dns.mappings", [{"name": "a"}]),
        ("dns.mappings", [{"name": "a", "alias-for": "b", "more": "c"}]),
        ("dns.upstreams", ["9.9.9.9:dns"]),
        ("host.backend", "Not a name"),
        ("tunnel.routes", "all"),
        ("host.route-namespaces", "yes"),
        ("tunnel.never-proxy", ["ten"]),
        ("daemon.metrics", "0.0.0.0:9153"),
        ("daemon.metrics", "127.0.0.1"),
    ],
)
def test_the_schema_itself_refuses(tmp_path: Path, name: str, value: Any) -> None:
    known = KNOWN[name]
    document = {known.section: {known.key: value}}
    assert not accepted(document)
    assert checked(tmp_path, document)


def test_values_are_written_as_they_were_read() -> None:
    mapping = (Mapping("db.local-dev", "10.0.0.7"),)
    assert written(mapping) == [{"name": "db.local-dev", "alias-for": "10.0.0.7"}]
    assert KNOWN["dns.mappings"].check(written(mapping)) == mapping
    assert (written(0.1), written(90), written(2.0), written(None), written(False)) == (
        "0.1s",
        "90s",
        "2s",
        "auto",
        False,
    )


def test_a_file_whose_name_cannot_be_one_is_absent() -> None:
    with pytest.raises(AbsentError, match="NUL"):
        read_text(Path("a\0b"))
