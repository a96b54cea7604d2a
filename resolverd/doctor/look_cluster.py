"""Facts about the cluster: is its API server there, who is it for us, what may we do. Nothing is stored there."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import tempfile
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp

from resolverd.cluster import kubeconfig
from resolverd.cluster.access import Access, open_session, shown
from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.cluster.kubeconfig import Invoker, KubeContext
from resolverd.cluster.pages import mapping
from resolverd.cluster.rights import (
    CLUSTER_DNS_NAMESPACE,
    NAMESPACES,
    PODS,
    PORT_FORWARD,
    SERVICES,
    SLICES,
    missing_verbs,
)
from resolverd.errors import ClusterError, ResolverdError
from resolverd.settings import ClusterSettings

from . import expiry
from .facts import ClusterFacts

LONGEST_LOGIN = 15.0
"""Seconds for the credentials: an exec plugin may be slow."""
LONGEST_ANSWER = 5.0
"""Seconds for the first answer of the API server."""
NEEDS = (NAMESPACES, SERVICES, SLICES, PORT_FORWARD, PODS)


async def look(settings: ClusterSettings, who: Invoker | None) -> ClusterFacts:
    """Log in, ask for the version, the rights and the DNS service."""
    try:
        context = await _log_in(settings, who)
    except ResolverdError as error:
        return ClusterFacts(credentials=error.why, credentials_fix=error.fix)
    access = context.access
    ends = [context.expires, expiry.of_certificate(access.cert_pem), expiry.of_token(access.token)]
    facts = ClusterFacts(server=shown(access.server), expires=min((end for end in ends if end), default=None))
    try:
        version, skew = await _greet(access)
    except aiohttp.ClientConnectorCertificateError as error:
        return replace(facts, bad_tls=str(error.certificate_error))
    except aiohttp.ClientConnectorSSLError as error:
        return replace(facts, bad_tls=str(getattr(error.os_error, "reason", "") or "the handshake failed"))
    except ssl.SSLError as error:
        return replace(facts, bad_tls=error.reason or str(error))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return replace(facts, unreachable=_why(error))
    return await _ask(replace(facts, version=version, skew=skew), access, settings)


async def _log_in(settings: ClusterSettings, who: Invoker | None) -> KubeContext:
    with tempfile.TemporaryDirectory(prefix="resolverd-doctor-") as scratch:
        if who:
            os.chmod(scratch, 0o711)  # noqa: PTH101, S103  # the invoking user's own folder is made inside
        try:
            async with asyncio.timeout(LONGEST_LOGIN):
                return await kubeconfig.load(settings.kubeconfig, settings.context, Path(scratch), who)
        except TimeoutError:
            why = f"the credential plugin gave no answer in {LONGEST_LOGIN:.0f} s"
            raise ClusterError("kubeconfig", why, "kubectl get namespaces") from None


async def _greet(access: Access) -> tuple[tuple[int, int] | None, float | None]:
    """The server's version, and how many seconds its clock is ahead of ours. Raises what aiohttp raises."""
    timeout = aiohttp.ClientTimeout(total=LONGEST_ANSWER)
    async with open_session(access) as session:
        began = time.time()
        name = access.tls_server_name or None
        async with session.get("version", timeout=timeout, allow_redirects=False, server_hostname=name) as response:
            body = await response.read()
            now = (began + time.time()) / 2
            date = response.headers.get("Date", "")
    return _version(body), _skew(date, now)


def _version(body: bytes) -> tuple[int, int] | None:
    """Of ``gitVersion``: major and minor may be ``1`` and ``28+``."""
    found = re.search(rb'"gitVersion":\s*"v(\d+)\.(\d+)', body)
    return (int(found[1]), int(found[2])) if found else None


def _skew(date: str, now: float) -> float | None:
    """The header has whole seconds (RFC 9110 5.6.7): half of one is added, as it was cut off on average."""
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - now if date else None
    except ValueError:
        return None


async def _ask(facts: ClusterFacts, access: Access, settings: ClusterSettings) -> ClusterFacts:
    try:
        async with ApiClient(access) as client:
            lacking = await _lacking(client, settings.namespaces)
            dns = await _dns(client)
    except ApiError as error:
        if error.status == 401:
            return replace(facts, unauthorized=error.why)
        return replace(facts, unreachable=error.why)
    except UnreachableError as error:
        return replace(facts, unreachable=error.why)
    nets = (ip_network(dns),) if dns else ()
    return replace(facts, lacking={key: verbs for key, verbs in lacking.items() if verbs}, dns=dns, nets=nets)


async def _lacking(client: ApiClient, namespaces: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Verbs that are refused in the first of ``namespaces`` that refuses any (in the whole cluster without)."""
    found = {}
    for need in NEEDS:
        wheres = namespaces if namespaces and need is not NAMESPACES else ("",)
        answers = await asyncio.gather(*(missing_verbs(client, need, where) for where in wheres))
        found[need.resource] = next((verbs for verbs in answers if verbs), ())
    return found


async def _dns(client: ApiClient) -> str | None:
    """The DNS service's address; empty: there is none; None: we may not look."""
    path = f"/api/v1/namespaces/{CLUSTER_DNS_NAMESPACE}/services"
    try:
        page = await client.get(path, {"labelSelector": "k8s-app=kube-dns"})
    except ApiError as error:
        if error.status == 403:
            return None
        raise
    items: Any = page.get("items")
    specs = [mapping(mapping(item).get("spec")) for item in (items if isinstance(items, list) else ())]
    addresses = [str(spec.get("clusterIP") or "") for spec in specs]
    return next((text for text in addresses if text not in ("", "None")), "")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return f"no answer within {LONGEST_ANSWER:.0f} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio makes up texts of its own; the number has the system's.
        number = error.os_error.errno
        is_name = isinstance(error.os_error, socket.gaierror)
        return os.strerror(number) if number and not is_name else str(error.os_error.strerror or error.os_error)
    return str(error) or type(error).__name__
