"""Another program that writes the same settings: reported, not fought. Pure.

Settings that were lost are set again, but not more than once in ``PAUSE``: two programs that each set things right
at once would keep the host's resolver busy for ever, and none of them would win.
"""

from __future__ import annotations

from collections import deque

from .errors import HostError

PAUSE = 5.0
"""Seconds between two times that lost settings are set again."""
MEMORY = 60.0
"""Seconds for which a loss counts."""
MANY = 2
"""Losses within ``MEMORY`` that make it a fight; once is somebody who tried something."""
FIX = "find it and stop it, or give it a link of its own: NetworkManager, systemd-networkd, a VPN client, a script?"


class Contention:
    """When our settings were lost to another program. Moments are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=100)

    def lost(self, now: float) -> None:
        """Our settings were found changed, and have been set again."""
        self._losses.append(now)

    def patience(self, now: float) -> float:
        """Seconds to wait before lost settings are set again; 0: now."""
        return max(0.0, self._losses[-1] + PAUSE - now) if self._losses else 0.0

    def error(self, link: str, now: float) -> HostError | None:
        """What to tell the user while it is a fight."""
        lately = [moment for moment in self._losses if now - moment < MEMORY]
        if len(lately) < MANY:
            return None
        why = f"another program changed its DNS settings {len(lately)} times within a minute"
        return HostError(f"link {link}", f"{why}; they are set again every {PAUSE:g} s at most", FIX)
