"""Events for systemd's journal with fields of their own, by its native protocol.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL and systemd.journal-fields(7).
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "resolverd"
_PRIORITY = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From which level on, and its number in syslog(3)."""


def priority(level: int) -> int:
    """The number in syslog(3) of a level of ``logging``."""
    return next((number for least, number in _PRIORITY if level >= least), 7)


class JournalHandler(logging.Handler):
    """Sends each event as a datagram; what the journal does not take goes to ``otherwise``.

    Raises OSError when there is no journal.
    """

    def __init__(self, process: str, otherwise: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self._process = process
        self._otherwise = otherwise
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)  # a journal that is slow delays no answer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.send(b"".join(_encoded(name, value) for name, value in self._fields(record)))
        except OSError:  # its buffer is full, it is being restarted, or the event is too large
            self._otherwise.handle(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", self.format(record)
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", IDENTIFIER
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
        yield "RESOLVERD_PROCESS", self._process


def _encoded(name: str, value: str) -> bytes:
    octets = value.encode(errors="replace")
    if b"\n" not in octets:
        return b"%s=%s\n" % (name.encode(), octets)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(octets)), octets)
