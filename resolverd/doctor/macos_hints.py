"""What people on macOS stumble over: nothing of it is wrong, and it looks as if. Pure."""

from __future__ import annotations

from .facts import Facts
from .verdict import Verdict, ok


def dig(_: Facts) -> Verdict:
    return ok(
        "dig, host and nslookup do not read /etc/resolver: use resolverd query, or dscacheutil -q host -a name NAME"
    )


def go(_: Facts) -> Verdict:
    return ok("Go programs built without cgo do not read /etc/resolver before Go 1.20: set GODEBUG=netdns=cgo")


def jvm(_: Facts) -> Verdict:
    return ok("a JVM keeps an address for 30 s, a failure for 10 s: set -Dnetworkaddress.cache.ttl in java.security")
