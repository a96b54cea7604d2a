"""Asking a running daemon, with the standard library alone: ``resolverd status`` shall be quick."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from resolverd.errors import NoPermissionError, NotRunningError, ResolverdError, UsageError
from resolverd.state import LOCK, SOCKET

TIMEOUT = 5.0
"""Seconds for one request."""


class SilentError(ResolverdError):
    """The daemon is there and does not answer: it hangs, or its machine has much to do."""

    def __init__(self, folder: Path) -> None:
        try:
            pid = (folder / LOCK).read_text().strip()
        except OSError:
            pid = ""
        fix = f"wait, or kill -9 {pid} and then resolverd down" if pid.isdecimal() else "wait, or see its log"
        super().__init__("daemon", f"process {pid or '?'} does not answer within {TIMEOUT:g} s", fix)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("resolverd", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(folder: Path, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the daemon whose state directory is ``folder``.

    Raises NotRunningError, NoPermissionError, SilentError, and what the daemon itself refuses as UsageError.
    """
    with _asking(folder) as connection:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    _check(response, answer)
    return answer


def lines(folder: Path, path: str) -> Iterator[dict[str, Any]]:
    """JSON objects as the daemon sends them, until it ends. Raises what :func:`request` raises."""
    with _asking(folder) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != HTTPStatus.OK:
            _check(response, json.loads(response.read()))
        while line := response.readline():
            if line.strip():
                yield json.loads(line)


def _check(response: http.client.HTTPResponse, answer: dict[str, Any]) -> None:
    """Raise what the daemon refuses."""
    if "error" in answer:
        raise (NoPermissionError if response.status == HTTPStatus.FORBIDDEN else UsageError)(*answer["error"])


@contextmanager
def _asking(folder: Path) -> Iterator[_UnixConnection]:
    """A connection; what goes wrong with it is said for people."""
    connection = _UnixConnection(folder / SOCKET)
    try:
        yield connection
    except PermissionError as error:
        raise NoPermissionError(
            "control socket",
            f"you may not open {folder / SOCKET}",
            "use sudo, or join the group of the service",
        ) from error
    except (FileNotFoundError, ConnectionError) as error:  # a connection that breaks off is a daemon that ends
        raise NotRunningError(
            "not running", f"nothing listens on {folder / SOCKET}", "start it with resolverd up"
        ) from error
    except TimeoutError as error:
        raise SilentError(folder) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ResolverdError("control socket", f"no proper answer: {error}", "see the daemon's log") from error
    finally:
        connection.close()


def is_running(folder: Path) -> bool:
    """Whether a daemon answers there."""
    try:
        request(folder, "GET", "/healthz")
    except NotRunningError:
        return False
    return True
