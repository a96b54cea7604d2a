"""What can be decided without a daemon: by the config file alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from resolverd import plan
from resolverd.cluster.objects import Namespace
from resolverd.cluster.snapshot import Snapshot
from resolverd.config import Loaded
from resolverd.decision import Decider, Policy
from resolverd.dns_policy import make_dns_config
from resolverd.host import Capabilities, Server
from resolverd.plan import ClusterFacts

DOMAIN = "cluster.local"
NOWHERE = Server(ip_address("127.0.0.1"))
"""Stands for our server, which is not there."""


def decider_of(loaded: Loaded) -> Decider:
    """Knows the namespaces that the settings name, and no others."""
    from resolverd_platform import suffix_list

    settings = loaded.settings
    named = settings.cluster.domain
    names = dict.fromkeys((*settings.cluster.namespaces, *(settings.dns.search or ())))
    snapshot = Snapshot(namespaces={name: Namespace(name) for name in names}, synced=True)
    domain = DOMAIN if named == "auto" else named
    ranges = tuple(ip_network(text) for text in settings.cluster.ranges or ())
    facts = ClusterFacts(domain, ranges, "", NOWHERE)
    capabilities = Capabilities(needs_link=False)
    made = plan.make(settings, snapshot, capabilities, facts, suffix_list.load(settings.dns.suffix_list))
    return Decider(
        Policy(
            make_dns_config(settings.dns, made, capabilities, domain=domain, ranges=ranges, server=NOWHERE),
            settings,
            made,
            loaded.origins,
            known=frozenset(names),
            is_complete=False,
            domain_source="assumed" if named == "auto" else "cluster.domain",
            context=settings.cluster.context,
        )
    )
