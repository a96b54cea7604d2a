"""How long to leave an API server alone after a failure. Pauses double, are jittered, and heed what the server asks."""

from __future__ import annotations

import random

from .client import ApiError, UnreachableError

PAUSES = (0.2, 4.0)
"""Seconds: the first pause, doubled with each further failure, and the longest, after which a return is noticed."""
REFUSED = {401: 30.0, 403: 20.0}
"""Seconds until what the server refuses us is tried again by itself; new credentials end the pause."""
STEADY = 5.0
"""Seconds a watch must have lived for its end to be ordinary, and the next to start without a pause."""


class Backoff:
    """The pauses of one who keeps trying."""

    def __init__(self) -> None:
        self.failures = 0

    def pause(self, error: ApiError | UnreachableError | None, lived: float, *, believed: bool = True) -> float:
        """Seconds until the next attempt, after one that took ``lived`` seconds and ended with ``error``.

        A refusal that is not ``believed`` is a failure like any other.
        """
        if lived > STEADY:
            self.failures = 0
        self.failures += 1 if error is not None or lived <= STEADY else 0
        shortest, longest = PAUSES
        ceiling: float = min(longest, shortest * 2 ** min(max(self.failures - 1, 0), 16))
        pause = random.uniform(ceiling / 2, ceiling)  # noqa: S311  # jitter, no secret
        if isinstance(error, ApiError):
            refused = REFUSED.get(error.status, 0.0) if believed else 0.0
            return max(refused, error.retry_after, pause if self.failures else 0.0)
        if error is None:
            return pause if self.failures else 0.0
        # A connection that timed out has been its own pause.
        return max(0.0, pause - lived) if self.failures > 1 else pause

    def succeeded(self) -> None:
        """The server gave us something: what failed before counts for little."""
        self.failures = min(self.failures, 1)
