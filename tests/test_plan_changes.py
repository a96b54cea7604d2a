"""What a plan changes beside what is in force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from test_plan import SERVER, make

from resolverd.host import HostRoutes
from resolverd.host_changes import Difference, Item, Step, What, compare, document, in_force, wanted
from resolverd.plan import HostPlan
from resolverd.settings import DnsSettings
from resolverd_platform.footprint import footprint


def status(plan: HostPlan, device: str = "resolverd0") -> dict[str, Any]:
    """The parts of the status document that tell it, of a daemon whose plan was taken as a whole."""
    shown = plan.to_json()
    ranges = [{"net": str(net), "source": source} for net, source in plan.routes.sources]
    return {
        "host": {"backend": "systemd-resolved", "link": device, "domains": shown["domains"], "search": shown["search"]},
        "tunnel": {"device": device, "ranges": ranges},
        "dns": {"listen": [str(server) for server in plan.dns.servers]},
    }


def steps(differences: tuple[Difference, ...]) -> list[str]:
    return [f"{each.step} {each.item.name}" for each in differences if each.step is not Step.KEEP]


def items(plan: HostPlan, device: str = "resolverd0") -> list[Item]:
    return list(wanted(plan, plan.dns, device, SERVER))


PLAN = make("default", "billing", "rs")


def test_without_a_daemon_all_of_it_is_new() -> None:
    found = compare(items(PLAN), ())
    assert {each.step for each in found} == {Step.ADD}
    assert [each.item.what for each in found] == sorted(
        (each.item.what for each in found), key=lambda what: list(What).index(what)
    )
    names = {each.item.name for each in found}
    assert {"resolverd0", "198.18.53.1:53", "~svc", "~billing", "10.96.0.0/16", "default.svc.cluster.local"} <= names
    assert "~rs" not in names


def test_what_is_in_force_stays() -> None:
    found = compare(items(PLAN), in_force(status(PLAN)))
    assert {each.step for each in found} == {Step.KEEP}
    assert len(found) == len(items(PLAN))


def test_only_what_differs_is_changed() -> None:
    dns = DnsSettings(include_suffixes=(".corp.test",), exclude_suffixes=(".billing",))
    found = compare(items(make("default", "billing", dns=dns)), in_force(status(PLAN)))
    assert sorted(steps(found)) == ["+ ~corp.test", "- ~billing"]


def test_without_the_cluster_nothing_of_it_is_said_to_go() -> None:
    found = compare([], in_force(status(PLAN)), knows_cluster=False)
    gone = Counter((each.step, each.item.what) for each in found)
    assert gone[Step.REMOVE, What.DEVICE] == 1
    assert not [what for step, what in gone if step is Step.REMOVE and what in (What.DOMAIN, What.SEARCH, What.ROUTE)]
    assert gone[Step.UNKNOWN, What.ROUTE] == 1


def test_a_domain_names_the_line_it_is_written_in() -> None:
    plan = make("default", dns=DnsSettings(include_suffixes=(".corp.test",)))
    found = wanted(plan, plan.dns, "", SERVER, {"corp.test": "config.yaml:2:22"})
    because = {item.name: item.because for item in found}
    assert (because["~corp.test"], because["~svc"]) == ("include-suffix, config.yaml:2:22", "svc")


def test_whole_networks_are_told_from_addresses() -> None:
    routes = HostRoutes((ip_network("10.96.0.0/16"),), sources=((ip_network("10.96.0.0/16"), "cluster"),))
    one, all_of_it = replace(PLAN, routes=routes), replace(PLAN, routes=replace(routes, whole=True))
    assert [item.because for item in items(one)][-1] == "cluster: addresses once answered"
    assert [item.because for item in items(all_of_it)][-1] == "cluster: all of it"


def test_the_document_is_one_line_each() -> None:
    hostile = Item(What.DOMAIN, "~a\nb", "c\x1b")
    shown = document((Difference(Step.ADD, hostile),), PLAN, {"backend": "none"})
    assert shown["changes"] == [{"step": "+", "what": "domain", "name": "~a b", "because": "c "}]
    assert [item["name"] for item in shown["withheld"]] == ["rs"]
    assert {"net": "127.0.0.0/8", "reason": "loopback"} in shown["never-routed"]
    assert shown["backend"] == "none"


@pytest.mark.parametrize(
    ("backend", "is_told", "expected"),
    [("none", False, []), ("systemd-resolved", True, []), ("etc-resolver", True, ["/etc/resolver/svc"])],
)
async def test_what_a_back_end_puts_on_the_host(backend: str, is_told: bool, expected: list[str]) -> None:
    told, found = await footprint(backend, replace(PLAN.dns, routing=("svc",), search=()))
    assert (bool(told), [item.name for item in found]) == (is_told, expected)
    assert ip_address("198.18.53.1") == PLAN.dns.servers[0].address
