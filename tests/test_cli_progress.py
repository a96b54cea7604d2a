"""The steps of ``up``: aligned, with times; what failed is the step that was waited for."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from collections.abc import Callable

import pytest

from resolverd.cli.progress import Steps
from resolverd.errors import HostError


def test_each_step_has_its_time_in_a_column_of_its_own() -> None:
    page = io.StringIO()
    with Steps(page) as steps:
        steps.done("first")
        steps.waiting("the second")
        steps.done("second")
    assert re.fullmatch(r"✓  0\.\d s  first\n✓  0\.\d s  second\n", page.getvalue())


def ended(page: io.StringIO, error: BaseException, waiting: str) -> None:
    with Steps(page) as steps:
        steps.done("first")
        if waiting:
            steps.waiting(waiting)
        raise error


def test_the_step_that_is_waited_for_when_it_goes_wrong_is_the_one_that_failed() -> None:
    page = io.StringIO()
    with pytest.raises(HostError):
        ended(page, HostError("second", "no"), "the second: it\x1b[2J hangs")
    assert re.search(r"\n✗  0\.\d s  the second: it \[2J hangs\n$", page.getvalue())


@pytest.mark.parametrize(("error", "waiting"), [(HostError("second", "no"), ""), (SystemExit(130), "the second")])
def test_after_a_step_that_is_done_and_an_interruption_nothing_has_failed(error: BaseException, waiting: str) -> None:
    page = io.StringIO()
    with pytest.raises(type(error)):
        ended(page, error, waiting)
    assert "✗" not in page.getvalue()


def on_a_terminal(work: Callable[[Steps], None], columns: int, **environment: str) -> str:
    """What a terminal of that width is sent."""
    import struct
    import termios
    from fcntl import ioctl

    child, master = pty.fork()
    if child == 0:
        os.environ |= environment
        ioctl(sys.__stderr__.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))  # type: ignore[union-attr]
        with open(2, "w", closefd=False) as page:
            work(Steps(page))
        os._exit(0)
    seen = b""
    try:
        while more := os.read(master, 4096):
            seen += more
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(master)
        os.waitpid(child, 0)
    return seen.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_what_is_waited_for_never_fills_a_line_of_the_terminal(columns: int) -> None:
    def work(steps: Steps) -> None:
        steps.waiting("word " * 40)
        steps.forget()

    shown = re.sub(r"\x1b\[\d*[mK]", "", on_a_terminal(work, columns, TERM="xterm"))
    (line,) = filter(None, shown.split("\r"))
    assert columns - 5 < len(line) < columns
    assert line.endswith(" …")


@pytest.mark.parametrize(("environment", "coloured"), [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_whose_user_likes_them(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = on_a_terminal(lambda steps: steps.done("first"), 80, **environment)
    assert ("\x1b[32m✓" in shown) is coloured
    assert "first" in shown
