"""Finding out whether an upstream asks us what we ask it.

The proof is a question with a random label of ours that comes back. It is asked below the name that is under
suspicion, since a resolver that routes by domain sends only some of them round. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .message import query_for
from .records import MAX_WIRE_NAME, Name, Type, wire_length

PREFIX = b"resolverd-loop-"
MAX_PROBES = 1000
"""Labels remembered; one that comes back later is refused all the same while it is among them."""


class Probes:
    """The labels that were sent out."""

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, Callable[[], None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, name: Name, secret: str, on_return: Callable[[], None]) -> bytes:
        """A query below ``name`` with a label of ours; ``on_return`` is called when it is asked of us."""
        label = PREFIX + secret.encode()
        below = name
        while wire_length((label, *below)) > MAX_WIRE_NAME:
            below = below[1:]
        self._sent[label] = on_return
        while len(self._sent) > MAX_PROBES:
            self._sent.popitem(last=False)
        return query_for((label, *below), Type.A)

    def is_ours(self, name: Name) -> bool:
        """Whether a question is one of ours come back; whoever sent it is told."""
        on_return = self._sent.get(name[0].lower()) if name else None
        if on_return is None:
            return False
        on_return()
        return True
