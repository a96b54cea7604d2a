"""Tables are what dictionaries would be, whatever happens to them, and no change costs what is in them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.cluster.table import SHARDS, Spread, Table, as_table

KEYS = [*range(4), *range(SHARDS, SHARDS + 3), *range(-2, 0)]
"""Some of them share a shard."""
NEWS = st.dictionaries(st.sampled_from(KEYS), st.none() | st.integers(0, 3), max_size=4)


@given(st.lists(NEWS, max_size=12))
def test_a_table_is_what_a_dictionary_would_be(batches: list[dict[int, int | None]]) -> None:
    here, there = Table[int, int](), dict[int, int]()
    passed: list[tuple[Table[int, int], dict[int, int]]] = []
    for news in batches:
        passed.append((here, there))
        here = here.changed(news)
        there = {key: item for key, item in (there | news).items() if item is not None}
        for one, other in [*passed, (here, there)]:
            assert dict(one) == other
            assert one == other
            assert len(one) == len(other)
            assert [one.get(key) for key in KEYS] == [other.get(key) for key in KEYS]
            assert [one.get(key, "none") for key in KEYS] == [other.get(key, "none") for key in KEYS]
            assert [key in one for key in KEYS] == [key in other for key in KEYS]


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Table[int, int]().changed({SHARDS: 1})[0]


def test_a_change_copies_what_shares_its_place_and_nothing_else() -> None:
    before = as_table({number: number for number in range(10_000)})
    after = before.changed({1: 0})
    copied = [one is not other for one, other in zip(before._shards, after._shards, strict=True)]
    assert copied.count(True) == 1
    assert len(max(after._shards, key=len)) < 50


def test_another_mapping_becomes_a_table() -> None:
    table = as_table({"a": 1})
    assert dict(table) == {"a": 1}
    assert as_table(table) is table


@given(st.lists(NEWS, max_size=12))
def test_a_spread_is_what_a_dictionary_would_be(batches: list[dict[int, int | None]]) -> None:
    here, there = Spread[int, int](), dict[int, int]()
    for key, item in (pair for news in batches for pair in news.items()):
        for each in (here, there):
            if item is None:
                each.pop(key, None)
            else:
                each[key] = item
        assert dict(here) == there
        assert (len(here), bool(here)) == (len(there), bool(there))
        assert [here.get(key) for key in KEYS] == [there.get(key) for key in KEYS]
        assert [key in here for key in KEYS] == [key in there for key in KEYS]


def test_a_spread_grows_a_little_at_a_time() -> None:
    spread = Spread[int, int]()
    spread.update((number, number) for number in range(10_000))
    assert len(max(spread._shards, key=len)) < 50
    with pytest.raises(KeyError):
        del spread[10_000]


@pytest.mark.parametrize("made", [as_table({"a": 1, "b": 2}), Spread({"a": 1, "b": 2})], ids=["table", "spread"])
def test_in_another_process_it_is_the_same(made: Mapping[str, int]) -> None:
    program = "import pickle, sys; made = pickle.load(sys.stdin.buffer); print(len(made), made['a'], 'b' in made)"
    told = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(made), capture_output=True, check=True)
    assert told.stdout == b"2 1 True\n"
