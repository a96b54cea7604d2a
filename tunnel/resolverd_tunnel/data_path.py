"""Which data path this host allows: a private namespace, else readdressing on the one device."""

from __future__ import annotations

import logging

from resolverd.errors import HostError, NoPermissionError

from .host_routes import RouteTable
from .inside import Inside
from .namespace import PrivateNamespace
from .readdressed import Readdressed, firewall_hint

log = logging.getLogger(__name__)

AUTO, NAMESPACE, READDRESS = "auto", PrivateNamespace.name, Readdressed.name
CHOICES = (AUTO, NAMESPACE, READDRESS)


def choose(wanted: str, ifindex: int, routes: RouteTable) -> Inside:
    """The data path ``wanted``, one of :data:`CHOICES`, for a device. HostError or NoPermissionError."""
    if wanted == READDRESS:
        return Readdressed.create(ifindex, routes)
    try:
        return PrivateNamespace.create()
    except (HostError, NoPermissionError) as error:
        if wanted == NAMESPACE:
            raise
        inside = Readdressed.create(ifindex, routes)
        hint = firewall_hint(inside.link)
        log.warning("%s: %s; readdressing on one device instead: %s", error.what, error.why, hint)
        return inside
