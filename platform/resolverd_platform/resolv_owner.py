"""Who looks after /etc/resolv.conf, as far as the host shows it: for the reason of a choice, and for the user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from resolverd.names import Address

from .resolv_conf import Original, nameservers_of
from .resolv_file import ResolvFile

RESOLVED_STUBS = frozenset({ip_address("127.0.0.53"), ip_address("127.0.0.54")})
DOCKER = ip_address("127.0.0.11")
_SIGNS = (
    ("systemd-resolved", ("/run/systemd/resolve/",), ("systemd-resolved",)),
    ("NetworkManager", ("/run/NetworkManager/",), ("NetworkManager",)),
    ("openresolv or resolvconf", ("/run/resolvconf/", "/etc/resolvconf/run/"), ("resolvconf",)),
    ("dhclient", (), ("dhclient", "dhcpcd")),
    ("WSL", ("/mnt/wsl/",), ("WSL",)),
    ("Docker", (), ("Docker Engine", "docker")),
    ("podman", (), ("podman",)),
)
"""Name, where its file is, and words of the comment that it begins its file with."""
_NM_DNSMASQ = Path("/run/NetworkManager/dnsmasq.pid")
CONTAINER_SIGNS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def uses_resolved(nameservers: Iterable[Address]) -> bool:
    """Whether programs that read the file ask systemd-resolved: it may run, and be asked by nobody."""
    return any(address in RESOLVED_STUBS for address in nameservers)


def describe(file: ResolvFile) -> str:
    """``/etc/resolv.conf names 10.0.0.2, written by NetworkManager; this is a container``."""
    text = file.read()
    if text is None:
        return f"there is no {file.path}, so 127.0.0.1 is asked"
    servers = nameservers_of(Original(text))
    parts = [f"{file.path} names {', '.join(map(str, servers))}"]
    if owner := _owner(file.target, text):
        parts.append(f"written by {owner}")
    if _NM_DNSMASQ.exists() and any(address.is_loopback for address in servers):
        parts.append("which is NetworkManager's dnsmasq")
    if DOCKER in servers:
        parts.append("which is Docker's own server")
    if _is_mounted_over(file.target):
        parts.append("mounted from outside")
    container = "; this is a container" if any(sign.exists() for sign in CONTAINER_SIGNS) else ""
    return ", ".join(parts) + container


def _owner(target: Path, text: str) -> str:
    comments = " ".join(line for line in text.splitlines() if line.startswith(("#", ";"))).lower()
    for name, folders, words in _SIGNS:
        if str(target).startswith(folders) or any(word.lower() in comments for word in words):
            return name
    return ""


def _is_mounted_over(target: Path) -> bool:
    """Whether the file is a mount of its own, as container engines make it."""
    try:
        seen = target.stat()
        points = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()}
    except OSError:
        return False
    return stat.S_ISREG(seen.st_mode) and os.fspath(target) in points
