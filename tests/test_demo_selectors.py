"""Selectors against a model, and the mistakes that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.demo.resources import EVENTS, PODS
from resolverd.demo.selectors import field_values, matches, parse_fields, parse_labels
from resolverd.demo.status import StatusError

KEYS = st.sampled_from(["app", "tier", "example.com/app", "a.b-c_d"])
VALUES = st.sampled_from(["", "web", "db", "v1.2_x-y"])
LABELS = st.dictionaries(KEYS, VALUES)
SPACE = st.sampled_from(["", " "])


@given(LABELS, KEYS, VALUES, st.sampled_from(["=", "==", "!="]), SPACE)
def test_equality(labels: dict[str, str], key: str, value: str, operator: str, space: str) -> None:
    selected = matches(parse_labels(f"{key}{space}{operator}{space}{value}"), labels)
    assert selected is ((labels.get(key) == value) is not (operator == "!="))


@given(LABELS, KEYS, st.lists(VALUES, min_size=1), st.booleans(), SPACE)
def test_sets(labels: dict[str, str], key: str, values: list[str], negated: bool, space: str) -> None:
    text = f"{key} {'notin' if negated else 'in'}{space}({f',{space}'.join(values)})"
    assert matches(parse_labels(text), labels) is ((labels.get(key) in values) is not negated)


@given(LABELS, KEYS, st.booleans())
def test_existence(labels: dict[str, str], key: str, negated: bool) -> None:
    assert matches(parse_labels("!" * negated + key), labels) is ((key in labels) is not negated)


@given(LABELS, st.lists(st.sampled_from(["app=web", "tier in (db, web)", "!example.com/app", "a.b-c_d"])), SPACE)
def test_all_terms_must_hold(labels: dict[str, str], terms: list[str], space: str) -> None:
    together = matches(parse_labels(f"{space},{space}".join(terms)), labels)
    assert together is all(matches(parse_labels(term), labels) for term in terms)


@pytest.mark.parametrize(
    "text", ["=web", "app=web,", "app in web", "app in (a", "app=a=b", "app>1", "-x", "app=é", ","]
)
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_labels(text)
    assert refused.value.code == 400


def test_fields() -> None:
    pod = {"metadata": {"name": "web-1"}, "spec": {"nodeName": "node0"}, "status": {}}
    selector = parse_fields("metadata.name=web-1,spec.nodeName!=node1,status.phase=", PODS.selectable)
    assert matches(selector, field_values(pod, selector))
    other = parse_fields("status.phase==Running", PODS.selectable)
    assert not matches(other, field_values(pod, other))


@pytest.mark.parametrize("text", ["spec.containers=x", "metadata.name", "involvedObject.name=web"])
def test_fields_that_cannot_be_selected_by_are_refused(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_fields(text, PODS.selectable)
    assert refused.value.code == 400
    assert parse_fields("involvedObject.name=web", EVENTS.selectable)
