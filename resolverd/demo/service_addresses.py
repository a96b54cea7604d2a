"""ClusterIPs: which families a service gets, and which addresses of the service ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .addresses import AddressesInUseError, AddressPool, place
from .resources import SERVICES
from .status import invalid

Raw = dict[str, Any]
_AFTER = ("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


class ServiceAddresses:
    """The service ranges of the cluster: one, or one of each family; the first is the default one."""

    def __init__(self, pools: Sequence[AddressPool]) -> None:
        self._pools = {pool.family: pool for pool in pools}
        self._default = pools[0].family

    def assign(self, raw: Raw, before: Raw | None = None) -> Raw:
        """``raw`` with its families and addresses; what ``before`` had is kept. StatusError 422."""
        spec = dict(raw["spec"])
        old = (before or {}).get("spec", {})
        if spec["type"] == "ExternalName":
            self.release(before)
            kept = {key: value for key, value in spec.items() if key not in (*_AFTER, "clusterIP", "clusterIPs")}
            return {**raw, "spec": kept}
        headless = (spec.get("clusterIP") or old.get("clusterIP")) == "None"
        families, policy = self._families(raw, spec, old, headless=headless)
        addresses = ["None"] if headless else self._addresses(raw, spec, old, families)
        spec["ports"] = _node_ports(raw["metadata"], spec)
        return {**raw, "spec": _ordered(spec, addresses, families, policy)}

    def release(self, raw: Raw | None) -> None:
        """Give back what a service had."""
        self._give_back((raw or {}).get("spec", {}).get("clusterIPs", []))

    def _give_back(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            if address != "None":
                self._pools["IPv6" if ":" in address else "IPv4"].release(address)

    def _families(self, raw: Raw, spec: Raw, old: Raw, *, headless: bool) -> tuple[list[str], str]:
        both = headless and not spec.get("selector")
        fallback = "RequireDualStack" if both else "SingleStack"
        asked = list(spec.get("ipFamilies") or old.get("ipFamilies") or [])
        policy = spec.get("ipFamilyPolicy") or old.get("ipFamilyPolicy")
        policy = policy or ("RequireDualStack" if len(asked) == 2 else fallback)
        families = asked or [self._default]
        wanted = 1 if policy == "SingleStack" else 2
        families = [*families, *(family for family in ("IPv4", "IPv6") if family not in families)][:wanted]
        if both:
            return families, policy
        missing = [family for family in families if family not in self._pools]
        if missing and (policy != "PreferDualStack" or families[0] in missing):
            why = f'Invalid value: "{missing[0]}": not configured on this cluster'
            raise invalid(SERVICES, raw["metadata"]["name"], [("spec.ipFamilies[0]", why)])
        return [family for family in families if family in self._pools], policy

    def _addresses(self, raw: Raw, spec: Raw, old: Raw, families: list[str]) -> list[str]:
        had = [address for address in old.get("clusterIPs") or [] if address != "None"]
        asked = list(spec.get("clusterIPs") or filter(None, [spec.get("clusterIP")]))
        if had and asked and asked[0] != had[0]:
            why = f"Invalid value: {asked!r}: may not change once set"
            raise invalid(SERVICES, raw["metadata"]["name"], [("spec.clusterIPs[0]", why)])
        addresses: list[str] = []
        for index, family in enumerate(families):
            if index < len(had):
                addresses.append(had[index])
                continue
            try:
                wanted = asked[index] if index < len(asked) else ""
                addresses.append(self._take(family, wanted, raw["metadata"]))
            except AddressesInUseError as error:
                self._give_back(addresses[len(had) :])
                why = f"Invalid value: {asked!r}: failed to allocate IP: {error}"
                raise invalid(SERVICES, raw["metadata"]["name"], [("spec.clusterIPs", why)]) from None
        self._give_back(had[len(families) :])
        return addresses

    def _take(self, family: str, wanted: str, metadata: Raw) -> str:
        pool = self._pools[family]
        return pool.claim(wanted) if wanted else pool.pick(place(metadata["namespace"], metadata["name"]))


def _node_ports(metadata: Raw, spec: Raw) -> list[Raw]:
    """The ports, each with a node port where the type of the service has them, and without elsewhere."""
    ports: list[Raw] = spec.get("ports", [])
    bare = [{key: value for key, value in port.items() if key != "nodePort"} for port in ports]
    if spec["type"] not in ("NodePort", "LoadBalancer"):
        return bare
    return [
        {**plain, "nodePort": port.get("nodePort") or _node_port(metadata["namespace"], metadata["name"], port)}
        for plain, port in zip(bare, ports, strict=True)
    ]


def _node_port(namespace: str, name: str, port: Raw) -> int:
    """From kube-apiserver's default range, 30000 to 32767; nothing here listens there, so none is refused as taken."""
    return 30000 + place(namespace, name, port["protocol"], str(port["port"])) % 2768


def _ordered(spec: Raw, addresses: list[str], families: list[str], policy: str) -> Raw:
    """The fields of a service's specification in the order in which the API writes them."""
    before: Raw = {key: spec[key] for key in ("ports", "selector") if spec.get(key)}
    skip = {"ports", "selector", "clusterIP", "clusterIPs", *_AFTER}
    return {
        **before,
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        **{key: value for key, value in spec.items() if key not in skip},
        "ipFamilies": families,
        "ipFamilyPolicy": policy,
        "internalTrafficPolicy": spec.get("internalTrafficPolicy", "Cluster"),
    }
