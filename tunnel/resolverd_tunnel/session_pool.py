"""Sessions whose connection has ended: a few for each pod, kept for a moment, for whoever connects next."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from .port_forward_session import Session

MOST_OF_POD = 32
MOST = 128
IDLE_LIMIT = 5.0
"""Seconds that one is kept. Each is a connection to the API server, and of the API server to the node."""

Pod = tuple[str, str, str]
"""Namespace, name and address: one that was made anew under its name is to be asked for anew, too."""


class SessionPool:
    """The sessions that carry nothing."""

    def __init__(self) -> None:
        self._idle: dict[Pod, list[tuple[Session, asyncio.TimerHandle]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def take(self, pod: Pod) -> Session | None:
        """One to ``pod``, the last that came back; None when there is none."""
        while idle := self._idle.get(pod):
            session, timer = idle.pop()
            timer.cancel()
            if not idle:
                del self._idle[pod]
            if session.is_open:
                return session
            self._end(session)
        return None

    def give_back(self, pod: Pod, session: Session) -> None:
        """Take a session whose connection has ended; it is closed when it cannot be used again, or need not."""
        self._do(self._clean(pod, session))

    def clear(self) -> None:
        """Close all of them: their way may be dead."""
        for idle in self._idle.values():
            for session, timer in idle:
                timer.cancel()
                self._end(session)
        self._idle.clear()

    async def close(self) -> None:
        """Close all of them, and what comes back from now on."""
        self._closed = True
        self.clear()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _clean(self, pod: Pod, session: Session) -> None:
        if await session.clean():
            self._keep(pod, session)
        else:
            await session.close()

    def _keep(self, pod: Pod, session: Session) -> None:
        if self._closed or not session.is_open or len(self._idle.get(pod, ())) >= MOST_OF_POD or len(self) >= MOST:
            self._end(session)
            return
        timer = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._expire, pod, session)
        self._idle.setdefault(pod, []).append((session, timer))

    def _expire(self, pod: Pod, session: Session) -> None:
        left = [(other, timer) for other, timer in self._idle.pop(pod, ()) if other is not session]
        if left:
            self._idle[pod] = left
        self._end(session)

    def _end(self, session: Session) -> None:
        self._do(session.close())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
