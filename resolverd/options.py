"""How the values of settings are checked: from what YAML or a flag gives to what the program uses.

Each check takes a plain value and returns the setting's value, or raises ValueError with the reason alone;
who calls it adds where the value stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from resolverd.names import address_of, fold, is_domain, is_label

Check = Callable[[Any], Any]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no text")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def choice(*allowed: str) -> Check:
    """One of ``allowed``."""

    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{_shown(value)} is none of {', '.join(allowed)}")
        return str(value)

    return check


def seconds(shortest: float, longest: float) -> Check:
    """A duration such as ``500ms``, ``5s`` or a number of seconds, within bounds (in seconds)."""

    def check(value: Any) -> float:
        match = _DURATION.fullmatch(str(value)) if not isinstance(value, bool) else None
        if match is None:
            raise ValueError(f"{_shown(value)} is no duration such as 5s or 500ms")
        length = float(match[1]) * _UNIT[match[2]]
        if not shortest <= length <= longest:
            raise ValueError(f"{_shown(value)} is not between {shortest:g}s and {longest:g}s")
        return length

    return check


def whole_seconds(shortest: int, longest: int) -> Check:
    """A duration of whole seconds, as a DNS TTL is (RFC 2181 8)."""
    bounded = seconds(shortest, longest)

    def check(value: Any) -> int:
        length: float = bounded(value)
        if length != int(length):
            raise ValueError(f"{_shown(value)} is not a whole number of seconds")
        return int(length)

    return check


def suffix(value: Any) -> str:
    """A domain suffix, with or without a leading dot; kept with one, folded."""
    bare = fold(text(value)).removeprefix(".").removesuffix(".")
    if not is_domain(bare):
        raise ValueError(f"{_shown(value)} is no domain suffix such as .corp.internal")
    return "." + bare


def name(value: Any) -> str:
    """A whole domain name, folded, without the final dot."""
    bare = fold(text(value)).removesuffix(".")
    if not is_domain(bare):
        raise ValueError(f"{_shown(value)} is no domain name")
    return bare


def name_or_address(value: Any) -> str:
    """A whole domain name, as :func:`name` has it, or an IP address in its canonical form."""
    address = address_of(text(value))
    if address is not None:
        return str(address)
    bare = fold(value).removesuffix(".")
    # No name ends in a number (RFC 1123 2.1): this is an address with a mistake in it.
    if not is_domain(bare) or bare.rpartition(".")[2].isdigit():
        raise ValueError(f"{_shown(value)} is neither a domain name nor an IP address")
    return bare


def namespace(value: Any) -> str:
    if not is_label(text(value)):
        raise ValueError(f"{_shown(value)} is no namespace name: a label of a-z, 0-9 and - is")
    return str(value)


def domain_or_auto(value: Any) -> str:
    return "auto" if value == "auto" else name(value)


def address_or_auto(value: Any) -> str:
    """An IP address in its canonical form, or ``auto``."""
    if value == "auto":
        return "auto"
    address = address_of(text(value))
    if address is None:
        raise ValueError(f"{_shown(value)} is no IP address")
    return str(address)


def network(value: Any) -> str:
    """A CIDR or an address, in its canonical form."""
    try:
        return str(ip_network(text(value)))
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is no CIDR: {error}") from None


def upstream(value: Any) -> str:
    """``ADDR``, ``ADDR:PORT`` or ``[ADDR6]:PORT``."""
    try:
        split_endpoint(text(value), 53)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no DNS server such as 9.9.9.9 or 127.0.0.1:5399") from None
    return str(value)


def endpoint(value: Any) -> str:
    """``ADDR:PORT`` or ``[ADDR6]:PORT``, or empty for none."""
    if value == "":
        return ""
    try:
        split_endpoint(text(value))
    except ValueError:
        raise ValueError(f"{_shown(value)} is no ADDR:PORT such as 127.0.0.1:5300") from None
    return str(value)


def split_endpoint(value: str, port: int | None = None) -> tuple[str, int]:
    """Address and port of ``ADDR:PORT``; ``port`` is used when none is written. Raises ValueError."""
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        number = rest.removeprefix(":")
    elif value.count(":") == 1:
        host, _, number = value.partition(":")
    else:
        host, number = value, ""
    if number == "" and port is not None and not value.endswith(":"):
        return str(ip_address(host)), port
    if not (number.isascii() and number.isdigit() and 0 <= int(number) <= 65535):
        raise ValueError(f"{value} has no port")
    return str(ip_address(host)), int(number)


def each(check: Check) -> Check:
    """A list, every item of it by ``check``."""

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{_shown(value)} is no list")
        return tuple(check(item) for item in value)

    return checked


def auto_or_each(check: Check) -> Check:
    """``auto`` (None), or a list."""
    listed = each(check)

    def checked(value: Any) -> tuple[Any, ...] | None:
        return None if value == "auto" else listed(value)

    return checked


def _shown(value: Any) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
