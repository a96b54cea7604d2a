"""What the system's own programs say, in one line."""

from __future__ import annotations

import pytest

from resolverd.demo.programs import output_of
from resolverd.errors import HostError

MOUNT = (
    "mount: /: not mount point or bad option.\n"
    "       dmesg(1) may have more information after failed mount system call.\n"
)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (MOUNT, "mount: /: not mount point or bad option."),
        ("first\nlast\n", "last"),
        ("", "exit code 3"),
    ],
    ids=["mount's pointer elsewhere is passed over", "the last word", "nothing"],
)
def test_a_program_that_fails_is_told_in_its_own_words(said: str, why: str) -> None:
    with pytest.raises(HostError) as raised:
        output_of(["sh", "-c", "cat >&2; exit 3"], lines=said)
    assert raised.value.why == why
