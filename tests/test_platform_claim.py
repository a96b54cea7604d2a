"""One daemon at a time programs a host's resolver."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from subprocess import PIPE

import pytest

from resolverd.errors import HostError
from resolverd_platform import claim
from resolverd_platform.claim import claimed


@pytest.fixture
def name() -> str:
    return f"\0resolverd.test.{os.getpid()}"


def test_a_second_one_hears_whose_it_is_and_the_next_one_gets_it(name: str) -> None:
    with claimed(name):
        for _ in range(20):
            with pytest.raises(HostError, match=rf"process {os.getpid()} programs this host's resolver"), claimed(name):
                pass
    with claimed(name):
        pass


def test_it_is_gone_with_a_killed_process(name: str) -> None:
    code = f"from resolverd_platform.claim import claimed\nwith claimed({name!r}): print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(HostError, match=f"process {holder.pid} "), claimed(name):
            pass
        holder.kill()
    with claimed(name):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_a_user_who_may_program_nothing_keeps_nobody_from_it(name: str, caplog: pytest.LogCaptureFixture) -> None:
    code = f"import os, socket; os.setuid(65534); s = socket.socket(1, 1); s.bind({name!r}); s.listen()"
    code += "; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with caplog.at_level(logging.WARNING), claimed(name):
            assert "of user 65534 holds the claim" in caplog.text
        holder.kill()


def test_one_who_does_not_say_who_it_is_keeps_nobody_from_it(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the name, and never listens."""
    monkeypatch.setattr(claim, "PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(name)
        with caplog.at_level(logging.WARNING), claimed(name):
            assert "somebody who does not say who holds the claim" in caplog.text


def test_one_that_is_just_ending_is_waited_for(name: str) -> None:
    ending = socket.socket(socket.AF_UNIX)
    ending.bind(name)
    threading.Timer(0.1, ending.close).start()
    with claimed(name), pytest.raises(HostError, match=f"process {os.getpid()} "), claimed(name):
        pass
