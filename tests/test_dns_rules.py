"""Rules of the specification, of CoreDNS and of the wire that no other table holds, one test each.

The others: what a name has, in ``test_dns_answer``; pods, in ``test_dns_pods``; headers, names, EDNS and sizes, in
``test_dns_wire``; streams and floods, in ``test_dns_server`` and ``test_dns_hostile``; aliases that lead out of the
cluster, in ``test_dns_forward``; what changes make of answers, in ``test_dns_memo``; all of them together, against a
second reading, in ``test_dns_differential``.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from dns_cluster import (
    CONFIG,
    HTTP,
    NOT_READY,
    OBJECTS,
    PG,
    SERIAL,
    ask,
    endpoint,
    index_of,
    port,
    put,
    service,
    short,
    shown,
    shown_name,
    slice_of,
)
from dns_wire import HEADER, MANY, NOPE, RD, WEB, opt, query, question, read, responder, told, wire
from test_dns_server import serving
from upstream_double import a, always, forwarding, upstream

from resolverd.dns.records import Type
from resolverd.dns.responder import Responder

SVCB, HTTPS, DS, CAA, ANY = 64, 65, 43, 257, 255


class TestAuthority:
    def test_every_number_of_the_soa(self) -> None:
        (row,) = read(told(query(NOPE))).authority
        zone = (b"cluster", b"local")
        assert (row.owner, row.type, row.ttl) == (zone, Type.SOA, 5)
        assert row.data == ((b"ns", b"dns", *zone), (b"hostmaster", *zone), SERIAL, 7200, 1800, 86400, 5)

    def test_before_the_first_list_there_is_an_soa_without_a_serial(self) -> None:
        here = Responder(CONFIG)
        here.fold(tuple(map(put, OBJECTS)), synced=False, serial=SERIAL)
        for name in (WEB, "svc.cluster.local", "cluster.local"):
            reply = read(told(query(name), to=here))
            assert (reply.rcode, reply.is_authoritative) == (2 if name == WEB else 0, True)
            (row,) = reply.authority
            assert isinstance(row.data, tuple)
            assert (row.owner, row.data[2]) == ((b"cluster", b"local"), 0)
            assert shown(ask(name, "A", here.index).authority[0]).split()[2] == "0"

    @pytest.mark.parametrize("name", ["nope.shop", "nope.shop.svc"])
    def test_the_zone_of_a_short_name_has_the_name_server_of_the_cluster(self, name: str) -> None:
        (row,) = ask(name, "A", index_of()).authority
        assert shown_name(row.owner) == f"{name.rpartition('.')[2]}."
        assert shown(row) == f"ns.dns.cluster.local. hostmaster.cluster.local. {SERIAL} 5"

    def test_the_zone_is_spelled_as_it_was_asked_and_targets_as_the_objects_are(self) -> None:
        denied = read(told(query("Nope.SHOP.svc.CLUSTER.Local")))
        assert denied.authority[0].owner == (b"CLUSTER", b"Local")
        found = read(told(query("_HTTP._tcp.WEB.shop.svc.CLUSTER.Local", Type.SRV)))
        assert isinstance(found.answer[0].data, tuple)
        assert found.answer[0].data[3] == tuple(WEB.encode().split(b"."))

    @pytest.mark.parametrize("name", ["Cluster.LOCAL", "cluster.local"])
    def test_the_name_server_whatever_the_spelling(self, name: str) -> None:
        assert short(ask(name, "NS", index_of())) == "ns.dns.cluster.local."
        assert [str(record.data) for record in ask(name, "NS", index_of()).additional] == ["198.18.53.1"]
        assert short(ask(f"NS.dns.{name}", "A", index_of())) == "198.18.53.1"

    def test_of_two_ranges_around_an_address_the_narrower_has_the_zone(self) -> None:
        for ranges in (("10.96.0.0/12", "10.96.4.0/24"), ("10.96.4.0/24", "10.96.0.0/12")):
            config = replace(CONFIG, ranges=tuple(map(ip_network, ranges)))
            for name, zone in (("9.4.96.10", "4.96.10"), ("9.5.96.10", "96.10")):
                (soa,) = ask(f"{name}.in-addr.arpa", "PTR", index_of(), config).authority
                assert shown_name(soa.owner) == f"{zone}.in-addr.arpa."

    async def test_an_alias_with_what_an_upstream_says_is_ours(self) -> None:
        async with upstream(always(a(owner="db.Example.com"))) as other, forwarding(other.server) as here:
            reply = await here.ask(query("outside.shop.svc.cluster.local"))
            assert len(reply.answer) == 2
            assert reply.flags & 0x0480 == 0x0400, "AA, not RA"


class TestTypes:
    @pytest.mark.parametrize("kind", [SVCB, HTTPS, DS, CAA, ANY, Type.PTR, Type.NS, Type.SOA])
    def test_a_type_without_records_tells_the_two_kinds_of_nothing_apart(self, kind: int) -> None:
        index = index_of()
        for name in (WEB, "shop.svc.cluster.local", "db.shop", "svc.cluster.local", "10-0-0-1.shop.pod.cluster.local"):
            assert short(ask(name, kind, index)) == "NODATA"
        for name in (NOPE, "web.nowhere.svc", "down.shop", "x.cluster.local", "shop.cluster.local"):
            assert short(ask(name, kind, index)) == "NXDOMAIN"

    def test_types_are_kept_apart_though_an_octet_of_theirs_is_a_letter(self) -> None:
        """65 is A and 97 is a; 0x4100 and 0x6100 likewise."""
        here = responder()
        for kind in (65, 97, 0x4100, 0x6100):
            assert read(told(query(WEB, kind), to=here)).question == question(WEB, kind)
        assert here.hits == 0
        assert len(here.memo) == 4


class TestServices:
    def test_only_cluster_ips_appear(self) -> None:
        status: dict[str, Any] = {
            "type": "LoadBalancer",
            "externalIPs": ["203.0.113.1"],
            "loadBalancerIP": "203.0.113.2",
        }
        ports = [{**HTTP, "nodePort": 30080, "targetPort": 8080}]
        index = index_of([*OBJECTS, service("lb", clusterIPs=["10.96.0.77"], ports=ports, **status)])
        assert short(ask("lb.shop", "A", index)) == "10.96.0.77"
        assert short(ask("lb.shop", "SRV", index)) == "0 100 80 lb.shop.svc.cluster.local."

    def test_a_service_that_waits_for_its_address_exists(self) -> None:
        for spec in ({"clusterIP": ""}, {}):
            index = index_of([*OBJECTS, service("new", ports=[HTTP], **spec)])
            assert [short(ask("new.shop", kind, index)) for kind in ("A", "AAAA", "SRV")] == ["NODATA"] * 3

    def test_a_weight_is_never_nothing(self) -> None:
        reply = read(told(query(f"crowd{MANY}.shop", Type.SRV), tcp=True))
        assert {row.data[:2] for row in reply.answer if isinstance(row.data, tuple)} == {(0, 1)}

    @pytest.mark.parametrize("spelled", [port("http", 80, "tcp"), port("HTTP", 80)])
    def test_ports_and_protocols_have_any_spelling(self, spelled: dict[str, object]) -> None:
        index = index_of([*OBJECTS, service("odd", clusterIPs=["10.96.0.77"], ports=[spelled, PG])])
        for name in ("_http._tcp", "_http._TCP", "_pg._tcp"):
            assert short(ask(f"{name}.odd.shop", "A", index)) == "10.96.0.77"


class TestEndpoints:
    def test_ready_in_one_slice_is_enough(self) -> None:
        twice = [endpoint("10.244.0.81", hostname="a", **NOT_READY)], [endpoint("10.244.0.81", hostname="a")]
        slices = [slice_of("both", each, [PG], str(number)) for number, each in enumerate(twice)]
        index = index_of([*OBJECTS, service("both", clusterIP="None", ports=[PG]), *slices])
        assert short(ask("both.shop", "A", index)) == "10.244.0.81"
        assert short(ask("81.0.244.10.in-addr.arpa", "PTR", index)) == "a.both.shop.svc.cluster.local."

    def test_a_hostname_in_capitals_is_found_and_shown_as_it_is(self) -> None:
        found = [endpoint("10.244.0.85", hostname="Node-A")]
        index = index_of([*OBJECTS, service("one", clusterIP="None", ports=[PG]), slice_of("one", found, [PG])])
        assert short(ask("node-a.one.shop", "A", index)) == "10.244.0.85"
        assert short(ask("85.0.244.10.in-addr.arpa", "PTR", index)) == "Node-A.one.shop.svc.cluster.local."

    def test_an_address_that_two_services_claim_has_one_name(self) -> None:
        claimed = [service(name, clusterIPs=["10.96.0.78"], ports=[HTTP]) for name in ("b", "a", "c")]
        index = index_of([*OBJECTS, *claimed])
        assert short(ask("78.0.96.10.in-addr.arpa", "PTR", index)) == "a.shop.svc.cluster.local."

    def test_an_ipv4_address_in_the_guise_of_ipv6_is_one_of_ipv4(self) -> None:
        index = index_of([*OBJECTS, service("guise", clusterIPs=["::ffff:10.96.0.79"], ports=[HTTP])])
        assert [short(ask("guise.shop", kind, index)) for kind in ("A", "AAAA")] == ["10.96.0.79", "NODATA"]
        assert short(ask("79.0.96.10.in-addr.arpa", "PTR", index)) == "guise.shop.svc.cluster.local."
        assert short(ask("--ffff-a00-1.shop.pod.cluster.local", "A", index)) == "10.0.0.1"

    def test_a_name_that_is_not_ready_is_none_though_its_address_is(self) -> None:
        found = [endpoint("10.244.0.84", hostname="a"), endpoint("10.244.0.84", hostname="b", **NOT_READY)]
        index = index_of([*OBJECTS, service("one", clusterIP="None", ports=[PG]), slice_of("one", found, [PG])])
        assert short(ask("84.0.244.10.in-addr.arpa", "PTR", index)) == "a.one.shop.svc.cluster.local."
        assert short(ask("b.one.shop", "A", index)) == "NXDOMAIN"

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({"ready": True, "serving": False, "terminating": True}, "10.244.0.82"),
            ({"ready": False, "serving": True, "terminating": False}, "NXDOMAIN"),
            ({"ready": None, "serving": False}, "10.244.0.82"),
        ],
    )
    def test_of_the_conditions_only_ready_counts(self, conditions: dict[str, object], expected: str) -> None:
        found = [endpoint("10.244.0.82", conditions=conditions)]
        made = service("one", clusterIP="None", ports=[PG], publishNotReadyAddresses=True)
        assert short(ask("one.shop", "A", index_of([*OBJECTS, made, slice_of("one", found, [PG])]))) == expected

    @pytest.mark.parametrize(
        ("pod", "hostname", "label"),
        [
            ("p" * 63, "", "p" * 63),
            ("p" * 64, "", "10-244-0-83"),
            ("a.b", "", "10-244-0-83"),
            ("", "h" * 63, "h" * 63),
            ("", "h" * 64, "10-244-0-83"),
        ],
    )
    def test_what_cannot_be_a_label_gives_no_name(self, pod: str, hostname: str, label: str) -> None:
        found = [endpoint("10.244.0.83", targetRef={"kind": "Pod", "name": pod}, hostname=hostname)]
        index = index_of([*OBJECTS, service("one", clusterIP="None", ports=[PG]), slice_of("one", found, [PG])])
        config = replace(CONFIG, endpoint_pod_names=True)
        target = f"{label}.one.shop.svc.cluster.local."
        assert short(ask("one.shop", "SRV", index, config)) == f"0 100 5432 {target}"
        assert short(ask(target, "A", index, config)) == "10.244.0.83"
        assert short(ask("83.0.244.10.in-addr.arpa", "PTR", index, config)) == target


class TestAliases:
    @pytest.mark.parametrize("target", ["alias.shop.svc.cluster.local", "x.alias.shop.svc.Cluster.local", "ALIAS.shop"])
    def test_one_that_leads_to_itself_or_below_is_left_out(self, target: str) -> None:
        index = index_of([*OBJECTS, service("alias", type="ExternalName", externalName=target)])
        assert short(ask("alias.shop.svc.cluster.local", "A", index)) == "NODATA"

    @pytest.mark.parametrize("target", ["192.0.2.1", "fd00::1", "::ffff:192.0.2.1", ""])
    def test_an_address_is_no_target(self, target: str) -> None:
        index = index_of([*OBJECTS, service("alias", type="ExternalName", externalName=target)])
        assert {short(ask("alias.shop", kind, index)) for kind in ("A", "AAAA", "CNAME", "TXT")} == {"NXDOMAIN"}

    def test_aliases_come_first_however_the_addresses_are_turned(self) -> None:
        alias = service("alias", type="ExternalName", externalName="db.shop.svc.cluster.local")
        here = responder(objects=[*OBJECTS, alias])
        seen = [read(told(query("alias.shop"), to=here)) for _ in range(9)]
        assert all([row.type for row in reply.answer] == [Type.CNAME, *[Type.A] * 3] for reply in seen)
        assert len({reply.answer[1].data for reply in seen}) == 3


RECORDS = {
    "tsig": wire((b"key",)) + struct.pack("!HHIH", 250, 255, 0, 16) + bytes(16),
    "sig0": b"\0" + struct.pack("!HHIH", 24, 255, 0, 4) + bytes(4),
}
OPTIONS = {
    "client subnet": struct.pack("!HHHBB3s", 8, 7, 1, 24, 0, b"\xc0\0\2"),
    "expire": struct.pack("!HH", 9, 0),
    "padding": struct.pack("!HH", 12, 100) + bytes(100),
    "cookie of one octet": struct.pack("!HHB", 10, 1, 1),
    "cookie of 41 octets": struct.pack("!HH", 10, 41) + bytes(41),
    "foreign server cookie": struct.pack("!HH", 10, 24) + bytes(24),
    "chain": struct.pack("!HH", 13, 1) + b"\0",
}


class TestWire:
    @pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
    @pytest.mark.parametrize("tcp", [False, True])
    def test_signed_queries_are_survived_and_no_signature_comes_back(self, record: bytes, tcp: bool) -> None:
        reply = read(told(HEADER.pack(1, RD, 1, 0, 0, 1) + question(WEB) + record, tcp=tcp))
        assert (reply.rcode, len(reply.answer), reply.additional) == (0, 1, [])

    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_options_that_others_have(self, options: bytes) -> None:
        for tcp in (False, True):
            reply = read(told(query(WEB, 1, opt(options=options)), tcp=tcp))
            assert (reply.rcode, len(reply.answer)) == (0, 1)
            assert reply.opt is not None
            assert reply.opt.data == b""

    async def test_three_questions_with_one_id(self) -> None:
        names = [WEB, NOPE, "old.shop"]
        async with serving() as here:
            with here.client() as end:
                for name in names:
                    end.send(query(name, number=7))
                asked = {(await here.received(end)).question for _ in names}
        assert asked == {question(name) for name in names}
