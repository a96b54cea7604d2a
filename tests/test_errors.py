"""Which of several errors a person is told of."""

from __future__ import annotations

import pytest

from resolverd.errors import HostError, first_of

OURS = HostError("TUN device", "the kernel has no TUN driver", "modprobe tun")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (ExceptionGroup("", [OURS]), OURS),
        (ExceptionGroup("", [KeyError("a"), ExceptionGroup("", [OURS])]), OURS),
        (ExceptionGroup("", [ExceptionGroup("", [KeyError("a")]), ValueError()]), KeyError),
    ],
)
def test_the_one_that_can_be_acted_on_else_the_first(errors: ExceptionGroup[Exception], told: object) -> None:
    found = first_of(errors)
    assert found is told or type(found) is told
