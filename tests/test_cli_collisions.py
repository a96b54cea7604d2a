"""Whose names stay whose: a cluster full of colliding namespaces on a host with an internet and a VPN of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from commands import resolverd
from stand_in import VPN, VPN_SAYS, asked, asking, joined, vpn
from test_cli_up import Laptop, laptop, lines, traits, until
from tuns import resolvectl

from resolverd.demo.internet import LINK, address_of
from resolverd_platform.suffix_list import load

__all__ = ["laptop", "traits"]
pytestmark = pytest.mark.staged

COLLIDING = {
    "rs": "icann-tld",
    "dev": "icann-tld",
    "web": "icann-tld",
    "com": "excluded",
    "local": "special-use",
    "corp": "special-use",
    "branch": "host-search-domain",
}
"""Namespace, and why it is withheld by the usual settings."""


@pytest.fixture(scope="module", autouse=True)
def internet() -> Iterator[None]:
    with joined():
        resolvectl("domain", LINK, "branch")
        yield


def namespace(name: str) -> dict[str, Any]:
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}


def service(name: str, where: str) -> dict[str, Any]:
    about = {"namespace": where, "name": name}
    return {"kind": "Service", "apiVersion": "v1", "metadata": about, "spec": {"ports": [{"port": 80}]}}


async def told() -> set[str]:
    return set((await lines("resolvectl domain resolverd0"))[3:])


async def host() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((await resolverd("status", "-o", "json")).out)["host"]
    return document


async def found(name: str) -> str:
    """The address of ``name`` as any program gets it."""
    return next(iter(await lines(f"getent ahostsv4 {name}")), "")


async def dug(name: str) -> list[str]:
    return await lines(f"dig +short {name} @127.0.0.53")


def public(name: str) -> str:
    return str(address_of(name))


def configure(laptop: Laptop, text: str, namespace: str = "shop") -> None:
    (laptop.folder / "config.yaml").write_text(text)
    (laptop.folder / "kubeconfig").write_text(laptop.cluster.kubeconfig(namespace, "t"))


async def test_no_namespace_takes_a_name_from_anybody(laptop: Laptop) -> None:
    configure(laptop, "", "dev")
    known = {item["metadata"]["name"] for item in laptop.cluster.objects("Namespace")}
    laptop.cluster.create_all([namespace(name) for name in COLLIDING.keys() - known])
    have = {item["metadata"]["namespace"] for item in laptop.cluster.objects("Service") if _is_web(item)}
    laptop.cluster.create_all([service("web", name) for name in COLLIDING.keys() - have])
    own = {name: laptop.cluster.get("Service", "web", name)["spec"]["clusterIP"] for name in COLLIDING}
    assert (await laptop.up()).code == 0

    assert not {f"~{name}" for name in COLLIDING} & await told()
    for name in ("docs.rs", "web.dev", "google.com", "a.web"):
        assert [await found(name), *await dug(name)] == [public(name)] * 2
    shown = await host()
    used = load().source
    assert (shown["suffix-list"]["path"], shown["suffix-list"]["dated"]) == (str(used.path), used.dated)
    assert shown["suffix-list"]["days"] >= 0
    assert re.search(rf"{used.dated}, +\d+ days old", (await resolverd("status")).out.replace("\n", " "))
    withheld = {item["name"]: item for item in shown["withheld"]}
    for name, address in own.items():
        assert (withheld[name]["kind"], withheld[name]["reason"]) == ("namespace", COLLIDING[name])
        assert f"NAME.{name}.svc.cluster.local" in withheld[name]["still"]
        for pattern in withheld[name]["still"]:
            assert await found(pattern.replace("NAME", "web")) == address
    assert withheld["dev"]["still"][-1] == "NAME", "the context's namespace is searched for single labels"
    leaked = [name for name in asked() if re.search(r"(^|\.)(cluster\.local|svc)$", name)]
    assert leaked == []

    async with asking(lambda number: f"n{number}.im" if number % 2 else "x.im") as asker:
        await asyncio.sleep(0.2)
        laptop.cluster.create_all([namespace("im"), service("x", "im")])
        laptop.cluster.create(namespace("proof"))

        async def known_here() -> bool:
            return "~proof" in await told() and asker.answered > 200

        await until(known_here)
        await asyncio.sleep(0.3)
    assert asker.failures == []
    assert await found("x.im.svc.cluster.local") == laptop.cluster.get("Service", "x", "im")["spec"]["clusterIP"]
    assert "~im" not in await told()


def _is_web(item: dict[str, Any]) -> bool:
    return bool(item["metadata"]["name"] == "web")


async def test_a_domain_is_the_vpns_while_there_is_one(laptop: Laptop) -> None:
    laptop.cluster.create_all([namespace("billing"), service("web", "billing")])
    address = laptop.cluster.get("Service", "web", "billing")["spec"]["clusterIP"]
    assert (await laptop.up()).code == 0
    assert await dug("web.billing") == [address]
    with vpn("~billing"):

        async def is_the_vpns() -> bool:
            return "~billing" not in await told() and await dug("web.billing") == [VPN_SAYS]

        await until(is_the_vpns)
        assert await found("web.billing") == VPN_SAYS
        (item,) = [item for item in (await host())["withheld"] if item["name"] == "billing"]
        assert (item["reason"], item["detail"]) == ("other-link-domain", f"link {VPN} answers for billing")
        assert await found("web.billing.svc") == address

    async def is_ours() -> bool:
        return "~billing" in await told() and await dug("web.billing") == [address]

    await until(is_ours)


EXCLUDES = """
cluster: {domain: prod.dev}
dns:
  allow-collisions: [shop]
  include-suffixes: [.prod.dev, .acme.com]
  exclude-suffixes: [.www.prod.dev, .www.acme.com, .com, .payments]
  excludes: [web.shop]
"""


async def test_what_we_choose_not_to_own_is_answered_by_who_owns_it(laptop: Laptop) -> None:
    configure(laptop, EXCLUDES)
    laptop.cluster.create_all([service("wpad", "shop")])
    address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert (await laptop.up()).code == 0
    in_force = await told()
    assert {"~prod.dev", "~acme.com", "~shop"} <= in_force
    assert "~payments" not in in_force
    assert await found("web.shop.svc.prod.dev") == address
    assert (await dug("db.shop"))[0].startswith("10.")
    under = ["www.prod.dev", "a.www.prod.dev", "www.acme.com", "web.shop"]
    proxies = ["wpad.shop", "wpad.shop.svc.prod.dev", "wpad.acme.com"]
    for name in under + proxies:
        assert [await found(name), *await dug(name)] == [public(name)] * 2
    assert await found("wpad") == public("wpad.shop.svc.prod.dev")
    assert set(under + proxies) <= set(asked())
    warnings = (await host())["warnings"]
    assert any(text.startswith("allow-collisions routes .shop to the cluster") for text in warnings)
    assert any(text.startswith("include-suffixes routes .prod.dev to the cluster") for text in warnings)


async def test_a_cluster_domain_that_is_others_too_works_by_its_full_names(laptop: Laptop) -> None:
    configure(laptop, "cluster: {domain: local}\n")
    address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert (await laptop.up()).code == 0
    assert {"~svc.local", "~pod.local", "shop.svc.local"} <= await told()
    assert "~local" not in await told()
    for name in ("web.shop.svc.local", "web.shop.svc", "web"):
        assert await found(name) == address
    (item,) = [item for item in (await host())["withheld"] if item["kind"] == "cluster-domain"]
    assert (item["name"], item["reason"]) == ("local", "special-use")


async def test_nothing_but_the_cluster_domain_and_the_includes(laptop: Laptop) -> None:
    lean = "cluster: {domain: prod.dev}\nhost: {route-namespaces: false}\n"
    configure(laptop, lean + "dns: {include-suffixes: [.acme.com]}\n")
    service = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert (await laptop.up()).code == 0
    assert await told() == {"~svc.prod.dev", "~pod.prod.dev", "~acme.com"}
    assert await found("web.shop.svc.prod.dev") == service
    for name in ("web.shop", "api.prod.dev", "www.prod.dev"):
        assert await found(name) == public(name)
    assert [await found("web"), await found("web.shop.svc"), *await dug(f"-x {service}")] == ["", ""]
    configure(laptop, lean + "dns: {include-suffixes: [.prod.dev], search: [shop]}\n")
    os.kill(await laptop.daemon(), signal.SIGHUP)

    async def is_searched() -> bool:
        return await told() == {"~prod.dev", "shop.svc.prod.dev"}

    await until(is_searched)
    assert await found("web") == service
