"""What the DNS process is told besides the cluster: the settings, and whom it may ask for names of others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from .dns.rules import DnsConfig, Labels
from .host import Capabilities, Server
from .names import Address, Network, address_of, labels
from .options import split_endpoint
from .plan import HostPlan, Origin
from .settings import DnsSettings
from .suffixes import SHARED, SHARED_PARTS

DNS_PORT = 53
RESOLVED_STUBS = frozenset({ip_address("127.0.0.53"), ip_address("127.0.0.54")})
"""Where systemd-resolved listens: it asks us for just the names that we would ask it for."""


def make_dns_config(
    settings: DnsSettings,
    plan: HostPlan,
    capabilities: Capabilities,
    *,
    domain: str,
    ranges: tuple[Network, ...],
    server: Server,
) -> DnsConfig:
    """The configuration of the server that listens at ``server`` for the cluster with ``domain`` and ``ranges``."""
    search = tuple(each.name for each in plan.domains if each.search)
    mapped = {labels(mapping.name): _target(mapping.alias_for) for mapping in settings.mappings}
    return DnsConfig(
        domain=domain,
        domain_parts=SHARED_PARTS if _is_shared(plan) else (),
        has_svc=plan.has_svc,
        namespaces=plan.namespaces,
        ranges=ranges,
        ttl=settings.ttl,
        pod_records=settings.pod_records,
        endpoint_pod_names=settings.endpoint_pod_names,
        lookup_timeout=settings.lookup_timeout,
        own_addresses=(server.address,),
        upstreams=upstreams(settings, capabilities, server),
        mark=capabilities.mark,
        includes=_suffixes(settings.include_suffixes),
        excluded_suffixes=_suffixes(settings.exclude_suffixes),
        excludes=frozenset(whole for name in settings.excludes for whole in searched(labels(name), search)),
        mappings={whole: to for name, to in mapped.items() for whole in searched(name, search)},
    )


def _is_shared(plan: HostPlan) -> bool:
    """Whether names in the cluster domain are others' too."""
    return any(each.kind is Origin.CLUSTER_DOMAIN and each.reason in SHARED for each in plan.withheld)


def upstreams(settings: DnsSettings, capabilities: Capabilities, server: Server) -> tuple[Server, ...]:
    """Whom to ask for names that are nobody's: the settings' servers, else the host's; never ourselves."""
    if settings.upstreams is not None:
        named = (split_endpoint(text, DNS_PORT) for text in settings.upstreams)
        wanted = tuple(Server(ip_address(host), port) for host, port in named)
    else:
        return host_servers(capabilities, server)
    return tuple(dict.fromkeys(upstream for upstream in wanted if upstream != server))


def host_servers(capabilities: Capabilities, server: Server) -> tuple[Server, ...]:
    """The host's own name servers, past its resolver and past ``server``, which is ours."""
    wanted = (Server(address, DNS_PORT) for address in _usable(capabilities))
    return tuple(dict.fromkeys(each for each in wanted if each != server))


def _usable(capabilities: Capabilities) -> Iterator[Address]:
    """The host's name servers, without its own resolver where that would ask us in turn."""
    asks_us = RESOLVED_STUBS if capabilities.backend == "systemd-resolved" else frozenset()
    for address in capabilities.nameservers:
        # A link-local address means nothing without its link.
        if address not in asks_us and (not address.is_link_local or getattr(address, "scope_id", None)):
            yield address


def _suffixes(texts: Iterable[str]) -> frozenset[Labels]:
    return frozenset(labels(text.removeprefix(".")) for text in texts)


def searched(name: Labels, search: Iterable[str]) -> Iterator[Labels]:
    """``name``, and for a single label what the host makes of it with its search domains."""
    yield name
    if len(name) == 1:
        yield from (name + labels(domain) for domain in search)


def _target(text: str) -> Address | Labels:
    address = address_of(text)
    return labels(text) if address is None else address
