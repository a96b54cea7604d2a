"""A table after any changes is what a dictionary would be, and the tables before it stay as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.cluster import table
from resolverd.cluster.table import Table

NEWS = st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 3), max_size=4)


@given(st.lists(NEWS, max_size=12), st.integers(0, 8))
def test_a_table_is_what_a_dictionary_would_be(batches: list[dict[int, int | None]], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "ROOM", room)
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
                assert [one.get(key) for key in range(10)] == [other.get(key) for key in range(10)]
                assert [key in one for key in range(10)] == [key in other for key in range(10)]
