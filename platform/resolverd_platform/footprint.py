"""What a back end puts on the host besides settings of its link: rules and files. Looks, and changes nothing."""

from __future__ import annotations

from resolverd.host import HostDns
from resolverd.host_changes import Item, What

from . import etc_resolver, host_facts, nft
from .etc_resolver import EtcResolverBackend
from .nft_table import FAMILY, TABLE
from .none import NoneBackend
from .override import OverrideBackend
from .redirect import MARK


async def footprint(backend: str, want: HostDns) -> tuple[HostDns, tuple[Item, ...]]:
    """What ``backend`` would tell the host of ``want``, and the rules and files by which."""
    if backend == NoneBackend.name or not want:
        return HostDns(), ()
    if backend == OverrideBackend.name:
        if why := await nft.why_not(MARK):
            return want, (Item(What.FILE, str(host_facts.RESOLV_CONF), f"names our server, since {why}"),)
        table = Item(What.RULE, f"nftables table {FAMILY} {TABLE}", "sends what is asked of the name servers to us")
        return HostDns(want.link, want.servers, want.routing), (table,)
    if backend == EtcResolverBackend.name:
        names = (*want.routing, *want.search)
        return want, tuple(Item(What.FILE, str(etc_resolver.FOLDER / name), "macOS reads it") for name in names)
    return want, ()
