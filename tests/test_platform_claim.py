"""One daemon at a time programs a host's resolver."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from subprocess import PIPE

import pytest

from resolverd.errors import HostError
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
