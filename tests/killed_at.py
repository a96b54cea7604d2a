"""``python killed_at.py FILE STEP ARGUMENTS...``: resolverd, killed by itself just before its STEP-th step.

A step is whatever may leave something behind: a file made or removed, a device, an address, a socket, a process, a
call on the system bus. They are written to FILE, a line each; with STEP 0 nothing is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

EFFECTS = {
    *("fcntl.ioctl", "fcntl.flock", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn"),
    *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.truncate", "os.chmod", "os.chown", "os.unshare"),
    *("socket.sendmsg", "socket.sendto", "os.kill"),
}
"""Events of sys.audit."""


def main() -> None:
    from resolverd.__main__ import main as resolverd
    from resolverd_platform.dbus import Call, FastBus

    file, last = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC), int(sys.argv[2])
    sys.argv[1:3] = []
    steps, call = 0, FastBus.call

    def step(what: str) -> None:
        nonlocal steps
        steps += 1
        os.write(file, f"{what}\n".encode())
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in EFFECTS:
            step(f"{event} {str(arguments)[:200]!r}")

    async def counted(bus: FastBus, made: Call) -> tuple[Any, ...]:
        step(f"bus {made.member}")
        return await call(bus, made)

    FastBus.call = counted  # type: ignore[method-assign, assignment]
    sys.addaudithook(hook)
    resolverd()


if __name__ == "__main__":
    main()
