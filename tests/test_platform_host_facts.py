"""What the host uses without us, from the kernel's tables and resolv.conf."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from resolverd.host import Subnet
from resolverd_platform import host_facts
from resolverd_platform.host_facts import HostFacts, read

ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
resolverd0\t0003600A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wg0\t000010AC\t0200000A\t0003\t0\t0\t0\t0000F0FF\t0\t0\t0
eth1\t000012AC\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
ZERO = "0" * 32
FE80_1 = "fe800000000000000000000000000001"
ROUTE6 = "\n".join(
    f"{destination} {length} {ZERO} 00 {gateway} 00000400 00000001 00000000 {flags} {link:>8}"
    for destination, length, gateway, flags, link in [
        ("fd001122000000000000000000000000", "40", ZERO, "00000001", "eth0"),
        ("fe800000000000000000000000000000", "40", ZERO, "00000001", "eth0"),
        (ZERO, "00", FE80_1, "00000003", "eth0"),
        ("fd001122000000000000000000000007", "80", ZERO, "80200001", "eth0"),
        ("ff000000000000000000000000000000", "08", ZERO, "00000001", "eth0"),
        (ZERO, "00", ZERO, "00200200", "lo"),
    ]
)


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "route").write_text(ROUTE)
    (tmp_path / "ipv6_route").write_text(ROUTE6 + "\n")
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "# comment\ndomain old.example\nsearch Corp.Example. lan .\nnameserver 192.168.1.1\n"
        "nameserver fe80::53%eth0\nnameserver 192.168.1.1\nnameserver nonsense\nnameserver\noptions edns0\n"
    )
    return resolv_conf, tmp_path


def test_whether_resolved_wrote_the_search_domains(host: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    resolv_conf, proc_net = host
    by_hand = read("resolverd0", resolv_conf, proc_net)
    assert by_hand.search_of_its_own == ("corp.example", "lan")
    stub = proc_net / "resolve" / "stub-resolv.conf"
    stub.parent.mkdir()
    resolv_conf.rename(stub)
    resolv_conf.symlink_to("resolve/stub-resolv.conf")
    monkeypatch.setattr(host_facts, "RESOLVED_FILES", (Path(os.path.realpath(stub.parent)),))
    linked = read("resolverd0", resolv_conf, proc_net)
    assert (linked.search, linked.search_of_its_own) == (by_hand.search, ())


@pytest.mark.parametrize(
    ("text", "hostname", "expected"),
    [
        ("nameserver 192.0.2.1\n", "box.Corp.Test", ("corp.test",)),
        ("nameserver 192.0.2.1\n", "box", ()),
        ("search lan\n", "box.corp.test", ("lan",)),
        ("", "box.corp.test.", ("corp.test",)),
    ],
)
def test_a_host_without_a_search_list_searches_its_own_domain(
    tmp_path: Path, text: str, hostname: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "resolv.conf").write_text(text)
    assert read("", tmp_path / "resolv.conf", tmp_path, hostname).search == expected


def test_everything_there_is_but_our_own_link(host: tuple[Path, Path]) -> None:
    resolv_conf, proc_net = host
    assert read("resolverd0", resolv_conf, proc_net) == HostFacts(
        search=("corp.example", "lan"),
        nameservers=(ip_address("192.168.1.1"), ip_address("fe80::53%eth0")),
        gateways=(ip_address("192.168.1.1"), ip_address("fe80::1")),
        subnets=(
            Subnet(ip_network("192.168.1.0/24"), "eth0"),
            Subnet(ip_network("10.0.0.0/8"), "wg0"),
            Subnet(ip_network("fd00:1122::/64"), "eth0"),
        ),
    )


def test_a_host_without_such_files_has_nothing_to_tell(tmp_path: Path) -> None:
    assert read("", tmp_path / "resolv.conf", tmp_path) == HostFacts()


def test_this_machines_own_files_are_understood() -> None:
    facts = read("")
    assert all(subnet.network.prefixlen for subnet in facts.subnets)
