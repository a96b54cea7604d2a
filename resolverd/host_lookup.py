"""Looking a name up as any program on this host would."""

from __future__ import annotations

import socket
import threading
from typing import Any


def addresses_of(name: str, longest: float, family: int = socket.AF_UNSPEC) -> list[str]:
    """The addresses of ``name``, by getaddrinfo. OSError, after ``longest`` seconds TimeoutError, when there are none.

    getaddrinfo knows no deadline; a stuck one is left behind in a thread that keeps nothing alive.
    """
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(name, None, family, socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)
        except UnicodeError as error:  # a label that is empty or too long once it is encoded
            found.append(OSError(str(error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(longest)
    if not found:
        raise TimeoutError("the resolver gives no answer")
    if isinstance(found[0], OSError):
        raise found[0]
    return list(dict.fromkeys(str(entry[4][0]) for entry in found[0]))
