"""Looking a name up as any program would, when that goes wrong."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from resolverd.host_lookup import addresses_of


def test_what_the_resolver_does_not_take_for_a_name_has_no_address() -> None:
    began = time.monotonic()
    with pytest.raises(OSError, match="label"):
        addresses_of("ä" * 64 + ".example", 20)
    assert time.monotonic() - began < 10


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> Any:
        time.sleep(0.5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(TimeoutError, match="gives no answer"):
        addresses_of("web.example", 0.05)
