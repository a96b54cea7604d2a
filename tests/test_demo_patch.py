"""Merge patches as RFC 7386 has them, and strategic merge patches as kubectl's commands send them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.demo.patch import merge_patch, strategic_merge_patch
from resolverd.demo.status import StatusError

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner), max_leaves=12
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(JSON, JSON)
def test_twice_is_once_and_the_arguments_stay(target: Any, patch: Any) -> None:
    kept = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert (target, patch) == kept


def difference(old: Any, new: Any) -> Any:
    """The patch that makes ``new`` of ``old``."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in old if key not in new}
    return gone | {key: difference(old.get(key), new[key]) for key in new if key not in old or old[key] != new[key]}


NO_NULLS = st.recursive(
    st.booleans() | st.integers(-3, 3), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner), max_leaves=12
)


@given(NO_NULLS, NO_NULLS)
def test_the_difference_of_two_documents_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    assert merge_patch(old, difference(old, new)) == new


def test_strategic_patches_merge_ports_and_containers_by_their_keys() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 53, "name": "dns"}]}}
    patch = {"spec": {"$setElementOrder/ports": [{"port": 80}], "ports": [{"port": 80, "name": "web"}, {"port": 81}]}}
    ports = strategic_merge_patch(service, patch)["spec"]["ports"]
    assert ports == [{"port": 80, "name": "web"}, {"port": 53, "name": "dns"}, {"port": 81}]
    pod = {"spec": {"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 1}]}]}}
    changed = strategic_merge_patch(pod, {"spec": {"containers": [{"name": "a", "image": "y"}]}})
    assert changed["spec"]["containers"] == [{"name": "a", "image": "y", "ports": [{"containerPort": 1}]}]


def test_strategic_directives() -> None:
    old = {
        "ports": [{"port": 80}, {"port": 81}],
        "selector": {"a": "b"},
        "finalizers": ["x", "y"],
        "labels": {"k": "v"},
    }
    patch = {
        "ports": [{"port": 80, "$patch": "delete"}],
        "selector": {"$patch": "replace", "c": "d"},
        "$deleteFromPrimitiveList/finalizers": ["x"],
        "labels": {"k": None, "n": "m"},
    }
    expected = {"ports": [{"port": 81}], "selector": {"c": "d"}, "finalizers": ["y"], "labels": {"n": "m"}}
    assert strategic_merge_patch(old, patch) == expected
    assert strategic_merge_patch(old, {"selector": {"$patch": "delete"}})["ports"] == old["ports"]
    assert strategic_merge_patch(old, {"ports": [{"$patch": "replace"}, {"port": 9}]})["ports"] == [{"port": 9}]


FIELDS = ["ports", "containers", "$patch", "port", "$deleteFromPrimitiveList/ports", "$setElementOrder/ports", "a"]
STRATEGIC = st.recursive(
    SCALARS | st.sampled_from(["delete", "replace"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=12,
)


@given(STRATEGIC, STRATEGIC)
def test_no_strategic_patch_does_worse_than_being_refused(target: Any, patch: Any) -> None:
    kept = copy.deepcopy((target, patch))
    try:
        strategic_merge_patch(target, patch)
    except StatusError as refused:
        assert refused.code == 400  # noqa: PT017  (most patches are not refused)
    assert (target, patch) == kept


def test_a_list_element_without_its_merge_key_is_refused() -> None:
    with pytest.raises(StatusError) as refused:
        strategic_merge_patch({}, {"ports": [{"name": "http"}]})
    assert refused.value.code == 400
