"""Watching pods, which is optional: on and off while the rest goes on, and no reason for it to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from .client import ApiClient, ApiError, UnreachableError
from .objects import Pod, PodList
from .snapshot import Change, Kind
from .watch import PODS, Reflector, Sink

FIX = "ask for list and watch on pods, or set dns.pod-records to insecure"


class PodWatch:
    """The pods of the namespaces that are followed, handed on to the sink of everything else while they are wanted."""

    def __init__(self, sink: Sink, on_ended: Callable[[Reflector], None]) -> None:
        """``on_ended``: a reflector follows nothing any more."""
        self._sink = sink
        self._on_ended = on_ended
        self._wanted = False
        self._switched = asyncio.Event()
        self.reflectors: list[Reflector] = []

    def cover(self, namespaces: tuple[str, ...]) -> None:
        """Watch the pods of these; one that is empty stands for all. Not while :meth:`run` runs."""
        if [each.namespace for each in self.reflectors] != list(namespaces):
            self._forget()
            self.reflectors = [Reflector(PODS, self, namespace) for namespace in namespaces]

    def want(self, wanted: bool) -> None:
        """Begin to watch, or stop and forget every pod."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._switched.set()

    @property
    def are_wanted(self) -> bool:
        return self._wanted

    @property
    def are_listed(self) -> bool:
        """Whether every list has been complete once."""
        return bool(self.reflectors) and all(reflector.listed for reflector in self.reflectors)

    async def run(self, client: ApiClient) -> None:
        """Watch while that is wanted, until cancelled. What was known stays known for the next run."""
        while True:
            self._switched.clear()
            if not self._wanted:
                self._forget()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each.run(client)) for each in self.reflectors] if self._wanted else []
                await self._switched.wait()
                for task in tasks:
                    task.cancel()

    def _forget(self) -> None:
        for reflector in self.reflectors:
            for key in reflector.known:
                self._sink.put(Change(Kind.POD, key, None))
            if reflector.listed:
                self._sink.put(Change(Kind.POD_LIST, ("", reflector.namespace), None))
            self._on_ended(reflector)
            reflector.known, reflector.version, reflector.listed = {}, "", False

    # The Sink of the reflectors.

    def put(self, change: Change) -> None:
        """A pod that is being ended stays what it was, known or not, until it is gone, as CoreDNS has it."""
        if not (isinstance(change.object, Pod) and change.object.terminating):
            self._sink.put(change)

    def listed(self, reflector: Reflector) -> None:
        self._sink.put(Change(Kind.POD_LIST, ("", reflector.namespace), PodList(reflector.namespace)))
        self._sink.listed(reflector)

    def alive(self, reflector: Reflector) -> None:
        self._sink.alive(reflector)

    def failed(self, reflector: Reflector, error: ApiError | UnreachableError) -> None:
        """What ends everything at the start (a missing right, say) is only trouble here."""
        told = error
        if isinstance(error, ApiError) and error.status == 403:
            told = ApiError(error.what, error.why, FIX, error.status, error.reason)
        with suppress(ApiError, UnreachableError):
            self._sink.failed(reflector, told)
