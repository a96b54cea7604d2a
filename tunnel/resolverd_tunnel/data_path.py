"""Which data path this host allows: a private namespace, best with the kernel moving segments; else readdressing."""

from __future__ import annotations

import logging

from resolverd.errors import HostError, NoPermissionError

from .host_routes import RouteTable
from .inside import Inside
from .namespace import NAMESPACE, OFFLOAD, PrivateNamespace
from .netlink import explain
from .offload import release
from .readdressed import Readdressed, firewall_hint

log = logging.getLogger(__name__)

AUTO, READDRESS = "auto", Readdressed.name
CHOICES = (AUTO, OFFLOAD, NAMESPACE, READDRESS)


def choose(wanted: str, ifindex: int, routes: RouteTable) -> Inside:
    """The data path ``wanted``, one of :data:`CHOICES`, for a device. HostError or NoPermissionError."""
    release(ifindex)
    if wanted == READDRESS:
        return Readdressed.create(ifindex, routes)
    try:
        namespace = PrivateNamespace.create()
    except (HostError, NoPermissionError) as error:
        if wanted != AUTO:
            raise
        inside = Readdressed.create(ifindex, routes)
        hint = firewall_hint(inside.link)
        log.warning("%s: %s; readdressing on one device instead: %s", error.what, error.why, hint)
        return inside
    if wanted != NAMESPACE:
        _offload(namespace, ifindex, wanted == OFFLOAD)
    return namespace


def _offload(namespace: PrivateNamespace, ifindex: int, demanded: bool) -> None:
    """Have the kernel move segments, where it can. HostError or NoPermissionError when it cannot and is to."""
    try:
        namespace.offload(ifindex)
    except OSError as error:
        if demanded:
            namespace.close()
            raise explain("eBPF", error) from error
        log.info("segments are copied here, the kernel does not move them itself: eBPF: %s", error.strerror)
