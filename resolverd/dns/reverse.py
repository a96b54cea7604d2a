"""Names of addresses (Kubernetes DNS specification 1.1, sections 2.3.3 and 2.4.3)."""

from __future__ import annotations

from collections.abc import Iterator

from resolverd.addresses import number_of, plain_address
from resolverd.names import Address, Network

from .found import Asked, Found
from .index import Everywhere
from .records import Name, Type, wire_name
from .services import endpoint_name


def find_reverse(network: Network | None, asked: Asked) -> Found:
    """Answer for the reverse name of ``network``: an address, or a block of them that is an inner node of the tree."""
    if network is None:
        return Found(False)
    if network.prefixlen < network.max_prefixlen:
        return Found(asked.index.has_address_in(network), depends=frozenset({Everywhere.ADDRESSES}))
    address = network.network_address
    targets = tuple(dict.fromkeys(_targets(address, asked))) or tuple(_mapped_names(address, asked))
    records = tuple(asked.record(Type.PTR, target) for target in targets) if asked.type == Type.PTR else ()
    return Found(bool(targets), records, (), frozenset({number_of(address)}))


def _targets(address: Address, asked: Asked) -> Iterator[Name]:
    """A cluster IP gives exactly one name; otherwise every ready endpoint entry with that address gives one.

    The service itself is not looked up: a slice may outlive it. A slice without a service has no names.
    """
    if key := asked.index.service_with(address):
        target = asked.full_name(key[1], key[0], "svc")
        if target is not None:
            yield target
        return
    for item in asked.index.slices_with(address):
        for endpoint in item.endpoints:
            for text in endpoint.addresses if endpoint.ready else ():
                if plain_address(text) == address:
                    name = endpoint_name(endpoint, text, asked.config.endpoint_pod_names)
                    target = asked.full_name(name, item.service, item.namespace, "svc")
                    if target is not None:
                        yield target


def _mapped_names(address: Address, asked: Asked) -> Iterator[Name]:
    """The user's own names for ``address``; the cluster's names go before them."""
    for mapped, target in asked.config.mappings.items():
        if target == address and (name := wire_name(mapped)):
            yield name
