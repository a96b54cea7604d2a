"""What the DNS process says to the tunnel process about who stands behind addresses: all of it, in portions."""

from __future__ import annotations

from ipaddress import ip_address

from dns_side import DnsSide
from fakes import eventually

from resolverd.behind import Behind, Follow
from resolverd.cluster.objects import Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind
from resolverd.dns.behind_server import MOST
from resolverd.parcels import Parcels

COUNT = 3 * MOST - 10
PORTS = (ServicePort("", "TCP", 80, 8080),)
SERVICES = [Service("shop", f"s{n}", "ClusterIP", (f"10.96.1.{n}",), False, "", PORTS) for n in range(COUNT)]
ADDRESSES = tuple(ip_address(service.cluster_ips[0]) for service in SERVICES)


async def test_much_is_said_in_portions_and_an_address_is_known_with_the_last_of_them() -> None:
    ours, dns = DnsSide.made()
    heard: list[Behind] = []
    begun: list[bool] = []
    parcels = Parcels(ours, heard.append, lambda: begun.append(True))
    dns.learn([Change(Kind.SERVICE, service.key, service) for service in SERVICES])
    await eventually(lambda: begun == [True])
    parcels.send(Follow(ADDRESSES))
    await eventually(lambda: bool(heard) and bool(heard[-1].addresses))
    parcels.close()
    dns.close()
    assert [len(each.changes) for each in heard] == [MOST, MOST, MOST - 10]
    assert {change.key for each in heard for change in each.changes} == {service.key for service in SERVICES}
    assert [each.addresses for each in heard] == [(), (), ADDRESSES]
