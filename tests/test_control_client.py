"""Asking a daemon that does not answer: it hangs, or has just begun on a machine that has much to do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resolverd import control_client
from resolverd.cli import background
from resolverd.cli.progress import Steps
from resolverd.errors import ExitCode
from resolverd.state import LOCK, SOCKET

HEALTHY = {"state": "healthy"}


@contextmanager
def daemon(folder: Path, silent: int) -> Iterator[None]:
    """Takes requests, and answers none of the first ``silent``."""
    (folder / LOCK).write_text("4711\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen()

        def serve() -> None:
            kept = [listening.accept()[0] for _ in range(silent)]
            while True:
                one, _ = listening.accept()
                if not one.recv(4096):
                    break
                body = json.dumps(HEALTHY)
                one.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                one.close()
            for each in (one, *kept):
                each.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            while thread.is_alive():
                with socket.socket(socket.AF_UNIX) as last:
                    last.connect(str(folder / SOCKET))
                thread.join(0.05)


def test_one_that_hangs_is_named_and_how_to_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "TIMEOUT", 0.1)
    with daemon(tmp_path, silent=1), pytest.raises(control_client.SilentError) as raised:
        control_client.request(tmp_path, "POST", "/stop")
    said = "daemon: process 4711 does not answer within 0.1 s (wait, or kill -9 4711 and then resolverd down)"
    assert (str(raised.value), raised.value.code) == (said, ExitCode.DEGRADED)


def test_one_that_is_slow_to_begin_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "TIMEOUT", 0.1)
    with daemon(tmp_path, silent=2):
        assert background._wait_healthy(tmp_path, Steps(), time.monotonic() + 20, lambda: None) == HEALTHY
