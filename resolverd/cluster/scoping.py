"""Which part of the cluster is followed, and from there to what follows it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator

from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.cluster.objects import Namespace
from resolverd.cluster.rights import CLUSTER_DNS_NAMESPACE, Scope, find_scope, named_scope
from resolverd.cluster.snapshot import Change, Kind
from resolverd.cluster.watch import WATCHED, Reflector, Sink

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Shortest time between two askings which part of the cluster may be followed, in seconds."""


class Part:
    """All of the cluster until that is refused, then what there are rights for; or what the settings name."""

    def __init__(self, named: tuple[str, ...]) -> None:
        """``named`` is empty where the settings name no namespaces."""
        self.scope = Scope()
        self._named = named
        self._is_settled = False
        self._is_guess = False
        """Whether nobody has said yet what there are rights for."""
        self._is_due = False
        """Whether to ask that."""
        self._asked = 0.0
        """When a refusal last led to asking, on the monotonic clock; 0: never."""

    async def settle(self, client: ApiClient, own: str) -> bool:
        """Decide, where that is due, and say whether it was; ``own`` is the namespace of the context.

        Raises ApiError and UnreachableError: see :meth:`assume`.
        """
        if self._is_settled and not self._is_due:
            return False
        if self._is_due or self._named:
            try:
                self.scope = await self._find(client, own)
            finally:
                self._is_due = False
            if not self._named:
                log.warning("%s", described(self.scope))
        self._is_settled, self._is_guess = True, False
        return True

    def assume(self) -> bool:
        """Nobody says what there are rights for: it is what it was. Whether that had to be decided."""
        if self._is_settled:
            return False
        self.scope = Scope(self._named or None, not self._named)
        self._is_settled = self._is_guess = True
        return True

    def ask_again(self) -> None:
        """The rights may be others': what there are rights for is asked, if not everything is followed."""
        self._is_due = not self.scope.is_whole

    def refused(self) -> bool:
        """Whether a refusal leads to asking what we may do: not when the user said what, and not again and again."""
        waited = not self._asked or time.monotonic() - self._asked > PAUSE
        if not self._is_due and (not waited or self._named or self.scope.is_partial):
            return False
        self._is_due, self._asked = True, time.monotonic()
        return True

    async def outgrown(self, client: ApiClient, own: str) -> bool:
        """Ask again and again where not everything may be followed: rights are given and taken. True when it is another
        part, which is to be settled anew; False where there is nothing to ask for."""
        while not self.scope.is_whole and (self._is_guess or not self._named):
            await asyncio.sleep(PAUSE)
            try:
                found = await self._find(client, own)
            except (ApiError, UnreachableError) as error:
                log.debug("which rights there are: %s", error)
                continue
            self._is_guess, self._is_due = False, found != self.scope
            if self._is_due:
                return True
        return False

    async def _find(self, client: ApiClient, own: str) -> Scope:
        return await (named_scope(client, self._named) if self._named else find_scope(client, own))


def reflectors_for(scope: Scope, sink: Sink) -> list[Reflector]:
    """What follows just ``scope``."""
    namespaced = [watched for watched in WATCHED if watched.kind is not Kind.NAMESPACE]
    if scope.namespaces is None:
        return [Reflector(watched, sink) for watched in (WATCHED if scope.lists_namespaces else namespaced)]
    found = [Reflector(watched, sink, name) for watched in namespaced for name in scope.namespaces]
    if scope.follows_dns and CLUSTER_DNS_NAMESPACE not in scope.namespaces:
        dns = (Kind.SERVICE, Kind.SLICE)
        labelled = [watched for watched in namespaced if watched.kind in dns]
        found += [Reflector(watched, sink, CLUSTER_DNS_NAMESPACE, "k8s-app=kube-dns") for watched in labelled]
    return found


def hand_over(scope: Scope, reflectors: Iterable[Reflector], there: Iterable[Change]) -> Iterator[Change]:
    """Have ``reflectors``, which follow ``scope``, know what is ``there``; the changes without which nobody would ever
    put its namespaces, or delete what is outside of it."""
    inside = set(scope.namespaces or ())
    for name in inside:
        yield Change(Kind.NAMESPACE, ("", name), Namespace(name))
    for kind, key, item in there:
        if item is None:
            continue
        for reflector in reflectors:
            if kind is reflector.watched.kind and reflector.namespace in ("", key[0]):
                reflector.known[key] = None
                break
        else:
            if scope.is_partial and (kind is not Kind.NAMESPACE or key[1] not in inside):
                yield Change(kind, key, None)


Covered = frozenset[str] | None
"""Namespaces of which everything is known; None: of all."""


def covered_by(scope: Scope) -> Covered:
    """What ``scope`` covers once all its lists are in."""
    return None if scope.namespaces is None else frozenset(scope.namespaces)


def in_both(one: Covered, other: Covered) -> Covered:
    """What ``one`` and ``other`` both cover."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def described(scope: Scope) -> str:
    """For people: what is followed, and why not more."""
    if scope.namespaces is None:
        return "; ".join(("following services of the whole cluster", *scope.missing))
    names = ", ".join(scope.namespaces) or "no namespace"
    return f"following {names}, all there are rights for; it may not: {'; '.join(scope.missing)}"
