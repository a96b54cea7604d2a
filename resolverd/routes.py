"""Which addresses may be routed into the tunnel, and which never are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_network

from .errors import UsageError
from .host import Capabilities, HostRoutes
from .names import Address, Network
from .planned import ClusterFacts
from .settings import TunnelSettings

FIXED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), reason)
    for text, reason in (
        ("0.0.0.0/8", "this-network"),  # RFC 1122 3.2.1.3
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "this-network"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Networks that no setting can route."""


def plan_routes(
    settings: TunnelSettings, capabilities: Capabilities, facts: ClusterFacts
) -> tuple[HostRoutes, tuple[str, ...]]:
    """The routes, and warnings for networks that were asked for in vain. UsageError for text that is no network.

    What this host's links are on is not named here: whoever adds the routes asks the kernel at that moment.
    """
    sources = dict.fromkeys(facts.ranges, "cluster") | dict(facts.sources)
    sources |= dict.fromkeys(_networks("also-proxy", settings.also_proxy), "also-proxy")
    wanted = tuple(sources)
    refused = {network: reason for network in wanted if (reason := _fixed_reason(network))}
    never: dict[Network, str] = {}
    for network, reason in _never(settings, capabilities, facts):
        never.setdefault(network, reason)
    routes = HostRoutes(
        allowed=tuple(network for network in wanted if network not in refused),
        never=tuple(never.items()),
        whole=settings.routes == "cidrs",
        sources=tuple((network, source) for network, source in sources.items() if network not in refused),
    )
    return routes, tuple(f"{network} is never routed: {reason}" for network, reason in refused.items())


def _never(settings: TunnelSettings, capabilities: Capabilities, facts: ClusterFacts) -> Iterator[tuple[Network, str]]:
    yield from FIXED
    yield from ((_only(address), "api-server") for address in facts.api_servers)
    if facts.server is not None:
        yield _only(facts.server.address), "dns-server"
    yield from ((_only(address), "nameserver") for address in capabilities.nameservers)
    yield from ((_only(address), "gateway") for address in capabilities.gateways)
    yield from ((network, "never-proxy") for network in _networks("never-proxy", settings.never_proxy))


def _fixed_reason(network: Network) -> str:
    """Why no part of ``network`` may be routed, or the empty text."""
    for fixed, reason in FIXED:
        same_family = isinstance(network, IPv4Network) == isinstance(fixed, IPv4Network)
        if same_family and network.subnet_of(fixed):  # type: ignore[arg-type]  # both are of one family here
            return reason
    return ""


def _networks(option: str, texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        try:
            yield ip_network(text, strict=False)
        except ValueError as error:
            raise UsageError(f"tunnel.{option}", f"{text} is no network", "write it as 10.1.0.0/16") from error


def _only(address: Address) -> Network:
    """The network of just ``address``, without a zone (``%eth0``): routes have none."""
    return ip_network(type(address)(int(address)))
