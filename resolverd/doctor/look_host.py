"""Facts about this machine: read, never changed. Paths are arguments, so that tests can have machines of their own."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import resolverd
from resolverd.cluster.access import shown
from resolverd.cluster.credentials import environment_proxy
from resolverd.errors import ResolverdError
from resolverd.names import Address
from resolverd.settings import Settings
from resolverd_platform import nft, suffix_list
from resolverd_platform.command import Programs, Runner

from .facts import HostFacts, Tun

ROOT = Path("/")
_NET_ADMIN = 12
"""Bit of CAP_NET_ADMIN (<linux/capability.h>)."""
_LISTENS = {"udp": "07", "udp6": "07", "tcp": "0A", "tcp6": "0A"}
"""State of a socket that takes from anybody (<net/tcp_states.h>): unconnected for UDP, LISTEN for TCP."""


async def look(settings: Settings, domain: str, run: Runner | None = None, root: Path = ROOT) -> HostFacts:
    """Everything the checks want to know of this machine below ``root``; takes some ten milliseconds."""
    from resolverd_tunnel.device_linux import ADDRESSES

    sys_fs = root / "proc" / "sys" / "fs" / "inotify"
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    dated = suffix_list.chosen(settings.dns.suffix_list)
    return HostFacts(
        system=sys.platform,
        is_root=os.geteuid() == 0,
        may_administer=_may_administer(root),
        tun=_tun(root / "dev" / "net" / "tun"),
        has_ipv6=_text(root / "proc/sys/net/ipv6/conf/all/disable_ipv6").strip() == "0",
        now=time.time(),
        installed=os.stat(resolverd.__file__).st_mtime,  # noqa: PTH116
        inotify_watches=_number(sys_fs / "max_user_watches"),
        inotify_instances=_number(sys_fs / "max_user_instances"),
        most_files=None if most_files == resource.RLIM_INFINITY else most_files,
        proxy=_proxy(domain, os.environ),
        taken=tuple(dict.fromkeys(_listening(root / "proc" / "net"))),
        device=tuple(map(ip_address, ADDRESSES)),
        drops=await _drops(settings.tunnel.device, run or Programs()),
        suffix_list=str(dated.path) if dated else "",
        suffix_list_day=dated.dated if dated else "",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _may_administer(root: Path) -> bool:
    line = next((line for line in _text(root / "proc/self/status").splitlines() if line.startswith("CapEff:")), "")
    return bool(int(line.split()[1], 16) >> _NET_ADMIN & 1) if line else os.geteuid() == 0


def _tun(path: Path) -> Tun:
    """Opening it makes no device: that takes a request of its own."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Tun.MISSING
    except PermissionError:
        return Tun.DENIED
    except OSError:  # ENODEV: the node is there, and the module is not
        return Tun.MISSING
    return Tun.USABLE


def _proxy(domain: str, environment: Mapping[str, str]) -> str:
    name = f"web.default.svc.{domain}"
    found = environment_proxy(f"http://{name}", environment) or environment_proxy(f"https://{name}", environment)
    return shown(found)


def _listening(folder: Path) -> Iterator[Address]:
    """Addresses of sockets on port 53, by the tables of /proc/net."""
    for name, state in _LISTENS.items():
        for line in _text(folder / name).splitlines()[1:]:
            fields = line.split()
            local, _, port = fields[1].partition(":")
            if int(port, 16) == 53 and fields[3] == state:
                yield _address(local)


def _address(text: str) -> Address:
    """Words of 32 bits, each as an integer of this machine."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    octets = b"".join(words)
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)


async def _drops(device: str, run: Runner) -> tuple[str, ...] | None:
    program = nft.program()
    if program is None:
        return ()
    try:
        listed = await run(program, "--json", "list", "ruleset")
    except ResolverdError:
        return None
    if listed.code != 0:
        return None
    try:
        items = json.loads(listed.out)["nftables"]
        chains = [item["chain"] for item in items if "chain" in item]
        return tuple(
            f"{chain['family']} {chain['table']} {chain['name']}"
            for chain in chains
            if chain.get("hook") == "input" and chain.get("policy") == "drop" and not _names(items, chain, device)
        )
    except (ValueError, KeyError, TypeError):
        return None


def _names(items: list[Mapping[str, Mapping[str, object]]], chain: Mapping[str, object], device: str) -> bool:
    """Whether a rule of ``chain`` speaks of ``device``."""
    own = (item["rule"] for item in items if "rule" in item)
    where = ("family", "table")
    return any(
        all(rule[key] == chain[key] for key in where) and rule["chain"] == chain["name"] and device in json.dumps(rule)
        for rule in own
    )
