"""Choosing a back end: by facts, with the reason, and with what was found when nothing suits."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest
from resolved_double import ResolvedDouble

from resolverd.errors import ExitCode, HostError
from resolverd.host import HostDns, ResolverBackend, Server
from resolverd_platform import etc_resolver
from resolverd_platform.dbus import DeadlineError, NoBusError
from resolverd_platform.detect import choose


@pytest.mark.parametrize(
    ("requested", "name", "reason"),
    [
        ("auto", "systemd-resolved", "systemd-resolved is on the system bus"),
        ("systemd-resolved", "systemd-resolved", "asked for; systemd-resolved is on the system bus"),
        ("none", "none", "asked for; nothing on this host is to be changed"),
    ],
)
async def test_what_suits_is_taken(requested: str, name: str, reason: str) -> None:
    backend, said = await choose(requested, "resolverd0", ResolvedDouble())
    assert (backend.name, said) == (name, reason)


@pytest.mark.parametrize(
    ("bus", "link", "found"),
    [
        (ResolvedDouble(owned=False), "resolverd0", "systemd-resolved is not running"),
        (ResolvedDouble(refuse={"NameHasOwner": NoBusError("No such file")}), "resolverd0", "No such file"),
        (ResolvedDouble(refuse={"NameHasOwner": DeadlineError("no answer")}), "resolverd0", "does not answer"),
        (ResolvedDouble(), "", "without a tunnel there is none"),
    ],
)
@pytest.mark.parametrize(("requested", "what"), [("auto", "host resolver"), ("systemd-resolved", "systemd-resolved")])
async def test_nothing_suitable_says_what_was_found(
    bus: ResolvedDouble, link: str, found: str, requested: str, what: str
) -> None:
    with pytest.raises(HostError, match=rf"^{what}: .*{found}.* \(use --backend none") as raised:
        await choose(requested, link, bus)
    assert raised.value.code is ExitCode.HOST
    assert bus.closed


async def test_a_back_end_that_is_not_for_this_host() -> None:
    with pytest.raises(HostError, match=r"back end resolvconf: .*\(--backend auto or systemd-resolved or .*none\)"):
        await choose("resolvconf", "resolverd0", ResolvedDouble())


async def test_none_changes_nothing_and_needs_no_bus() -> None:
    bus = ResolvedDouble(refuse={"NameHasOwner": NoBusError("No such file")})
    backend: ResolverBackend = (await choose("none", "", bus))[0]
    want = HostDns("resolverd0", (Server(ip_address("198.18.53.1")),), ("svc",))
    assert not (await backend.apply(want)).dns
    assert not await backend.read()
    assert (await backend.capabilities()).domain_limit == 0
    await backend.flush()
    await backend.revert()
    await backend.close()
    assert bus.calls == []


async def test_the_back_end_of_another_system_says_so() -> None:
    with pytest.raises(HostError, match=r"^etc-resolver: only macOS reads /etc/resolver \(use --backend none"):
        await choose("etc-resolver", "resolverd0", ResolvedDouble())


async def test_a_mac_which_has_no_bus_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dbus_fast", None)
    monkeypatch.setattr(etc_resolver.look, "__defaults__", ("darwin",))
    backend, said = await choose("auto", "resolverd0")
    assert (backend.name, said) == ("etc-resolver", "macOS asks the servers that files in /etc/resolver name")
    with pytest.raises(HostError, match="systemd-resolved: there is no dbus_fast to reach a system bus with"):
        await choose("systemd-resolved", "resolverd0")
