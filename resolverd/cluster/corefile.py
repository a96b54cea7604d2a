"""The cluster's DNS domain as CoreDNS is configured with it: one object that most people who run things may read."""

from __future__ import annotations

import logging

from resolverd.names import fold, is_domain

from .client import ApiClient, ApiError
from .pages import mapping

log = logging.getLogger(__name__)

CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/coredns"
"""Where kubeadm, k3s, kind and the large providers keep it."""


async def domain_of(client: ApiClient) -> str | None:
    """The domain; empty where it is not there, None where it may not be read.

    Raises UnreachableError, and ApiError when the server cannot tell now.
    """
    try:
        found = await client.get(CONFIG_MAP)
    except ApiError as error:
        if error.is_passing:
            raise
        log.debug("%s: %s", CONFIG_MAP, error.why)
        return None if error.is_refusal else ""
    text = mapping(found.get("data")).get("Corefile")
    return read_domain(text) if isinstance(text, str) else ""


def read_domain(corefile: str) -> str:
    """The first zone of the ``kubernetes`` plugin that is no reverse zone; empty when there is none."""
    for line in corefile.splitlines():
        word, *zones = line.partition("#")[0].replace("{", " ").split() or [""]
        if word != "kubernetes":
            continue
        for zone in zones:
            domain = fold(zone).removesuffix(".")
            if is_domain(domain) and not domain.endswith(".arpa"):
                return domain
    return ""
