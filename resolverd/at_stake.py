"""Which names of others stop working when a colliding domain is routed to the cluster: for warnings. Pure."""

from __future__ import annotations

_KNOWN = {
    "ai": "claude.ai",
    "app": "cash.app",
    "build": "bazel.build",
    "com": "google.com, github.com",
    "dev": "web.dev, go.dev",
    "im": "pidgin.im",
    "io": "docker.io, quay.io",
    "me": "t.me",
    "net": "cloudfront.net",
    "org": "python.org, debian.org",
    "rs": "docs.rs",
    "sh": "brew.sh",
    "uk": "gov.uk",
}
"""Public names that a developer may miss, by the suffix they end in."""
_SPECIAL = {
    "arpa": "every reverse lookup (10.in-addr.arpa)",
    "corp": "the servers of a company's network",
    "home": "the devices of a home network",
    "home.arpa": "the devices of a home network",
    "internal": "the servers of a company's or a cloud's network",
    "lan": "the devices of a home network",
    "local": "printers and all that says its name by mDNS",
    "localhost": "this host itself",
}
"""Whose the special-use names are; those not here are nobody's."""


def public_names(suffix: str) -> str:
    """``web.dev, go.dev, every public name under .dev``."""
    known = _KNOWN.get(suffix)
    return f"{known}, every public name under .{suffix}" if known else f"every public name under .{suffix}"


def special_names(suffix: str) -> str:
    """Who goes without names when ``suffix`` is the cluster's."""
    return _SPECIAL.get(suffix, f"what relies on .{suffix} being reserved")
