"""How the values of settings are checked: from what YAML or a flag gives to what the program uses.

A check takes a plain value and returns the setting's value, or raises ValueError with the reason alone; who calls it
adds where the value stands. Each check also says as a JSON Schema what it takes. The schema may refuse less than the
check does (it cannot compare durations), never more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from resolverd import plugins
from resolverd.names import address_of, fold, is_domain, is_label

_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,15})?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Check:
    """What one setting, or one item of a list, may be."""

    accept: Callable[[Any], Any]
    kind: str
    """What ``accept`` takes, in a few words."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """What ``accept`` takes, as a JSON Schema (draft 2020-12)."""
    item: Check | None = None
    """Of a list: the check of its items. ``accept`` then gets the list of what this one returned, or no list."""
    keys: Mapping[str, Check] = field(default_factory=dict)
    """Of a mapping: its keys, all of which must be there. ``accept`` then gets what they returned, or no mapping."""

    def __call__(self, value: Any) -> Any:
        if self.item and isinstance(value, list | tuple):
            value = [self.item(item) for item in value]
        return self.accept(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no text")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def _matching(pattern: str, **more: Any) -> Mapping[str, Any]:
    return {"type": "string", "pattern": pattern, **more}


text = Check(_text, "text", {"type": "string"})
boolean = Check(_boolean, "true, false", {"type": "boolean"})


def choice(*allowed: str) -> Check:
    """One of ``allowed``."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{_shown(value)} is none of {', '.join(allowed)}")
        return value

    return Check(check, ", ".join(allowed), {"type": "string", "enum": list(allowed)})


def choice_or_plugin(group: str, *allowed: str) -> Check:
    """One of ``allowed``, or the name of an entry point of ``group`` that is installed (:mod:`resolverd.plugins`)."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or (value not in allowed and value not in plugins.names(group)):
            raise ValueError(f"{_shown(value)} is none of {', '.join((*allowed, *plugins.names(group)))}")
        return value

    schema = {"type": "string", "anyOf": [{"enum": list(allowed)}, {"pattern": r"^[a-z0-9][a-z0-9._-]*$"}]}
    return Check(check, f"{', '.join(allowed)}, or a plugin's", schema)


_DURATION = rf"{_NUMBER}|({_NUMBER}(ms|s|m|h))+"


def seconds(shortest: float, longest: float) -> Check:
    """A duration such as ``500ms``, ``5s``, ``1m30s`` or a number of seconds, within bounds (in seconds)."""

    def check(value: Any) -> float:
        length = _length(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        if length is None:
            raise ValueError(f"{_shown(value)} is no duration such as 5s or 500ms")
        if not shortest <= length <= longest:
            raise ValueError(f"{_shown(value)} is not between {shortest:g}s and {longest:g}s")
        return length

    written = _matching(f"^({_DURATION})$")
    kind = f"duration, {shortest:g}s to {longest:g}s"
    return Check(check, kind, {"anyOf": [written, {"type": "number", "minimum": shortest, "maximum": longest}]})


def _length(written: str) -> float | None:
    """Seconds of a duration as Go writes them, or of a bare number; None when it is neither."""
    if not re.fullmatch(_DURATION, written):
        return None
    parts = _PART.findall(written)
    return sum(float(number) * _UNIT[unit] for number, _, unit in parts) if parts else float(written)


def whole_seconds(shortest: int, longest: int) -> Check:
    """A duration of whole seconds, as a DNS TTL is (RFC 2181 8)."""
    bounded = seconds(shortest, longest)

    def check(value: Any) -> int:
        length: float = bounded(value)
        if length != int(length):
            raise ValueError(f"{_shown(value)} is not a whole number of seconds")
        return int(length)

    text, number = bounded.schema["anyOf"]
    kind = f"whole seconds, {shortest}s to {longest}s"
    return Check(check, kind, {"anyOf": [text, {**number, "type": "integer"}]})


_LABEL = "_?[A-Za-z0-9]([-_A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_DOMAIN_PATTERN = rf"{_LABEL}(\.{_LABEL})*\.?"


def _suffix(value: Any) -> str:
    bare = fold(_text(value)).removeprefix(".").removesuffix(".")
    if not is_domain(bare):
        raise ValueError(f"{_shown(value)} is no domain suffix such as .corp.internal")
    return "." + bare


def _name(value: Any) -> str:
    bare = fold(_text(value)).removesuffix(".")
    if not is_domain(bare):
        raise ValueError(f"{_shown(value)} is no domain name")
    return bare


def _name_or_address(value: Any) -> str:
    address = address_of(_text(value))
    if address is not None:
        return str(address)
    bare = fold(value).removesuffix(".")
    # No name ends in a number (RFC 1123 2.1): this is an address with a mistake in it.
    if not is_domain(bare) or bare.rpartition(".")[2].isdigit():
        raise ValueError(f"{_shown(value)} is neither a domain name nor an IP address")
    return bare


def _namespace(value: Any) -> str:
    if not is_label(_text(value)):
        raise ValueError(f"{_shown(value)} is no namespace name: a label of a-z, 0-9 and - is")
    return str(value)


def _address_or_auto(value: Any) -> str:
    if value == "auto":
        return "auto"
    address = address_of(_text(value))
    if address is None:
        raise ValueError(f"{_shown(value)} is no IP address")
    return str(address)


def _network(value: Any) -> str:
    try:
        meant = ip_network(_text(value).replace("%", "no zone"), strict=False)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no CIDR such as 10.0.0.0/8") from None
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError(f"{_shown(value)} has host bits set, write {meant}") from None


def _device(value: Any) -> str:
    if not re.fullmatch(_DEVICE_PATTERN, _text(value)) or value in (".", ".."):
        raise ValueError(f"{_shown(value)} is no name for a device: 1 to 15 characters, without spaces, / : and %")
    return str(value)


_DEVICE_PATTERN = "[!-$&-.0-9;-~]{1,15}"
device = Check(_device, "device name", _matching(f"^{_DEVICE_PATTERN}$"))
"""The name of a network device (dev_valid_name in Linux); a % the kernel would take for a template."""
suffix = Check(_suffix, "domain suffix", _matching(rf"^\.?{_DOMAIN_PATTERN}$", maxLength=255))
"""A domain suffix, with or without a leading dot; kept with one, folded."""
name = Check(_name, "domain name", _matching(f"^{_DOMAIN_PATTERN}$", maxLength=254))
"""A whole domain name, folded, without the final dot."""
name_or_address = Check(
    _name_or_address, "domain name or address", {"type": "string", "minLength": 1, "maxLength": 254}
)
"""A whole domain name, as :data:`name` has it, or an IP address in its canonical form."""
namespace = Check(_namespace, "namespace", _matching("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))
domain_or_auto = Check(lambda value: "auto" if value == "auto" else _name(value), "auto, or domain name", name.schema)
address_or_auto = Check(_address_or_auto, "auto, or address", _matching("^(auto|[0-9A-Fa-f:.]+)$"))
"""An IP address in its canonical form, or ``auto``."""
network = Check(_network, "CIDR or address", _matching(r"^[0-9A-Fa-f:.]+(/[0-9.]{1,15})?$"))
"""A CIDR or an address, in its canonical form."""


def _upstream(value: Any) -> str:
    try:
        if not split_endpoint(_text(value), 53)[1]:
            raise ValueError("nobody listens on port 0")
    except ValueError:
        raise ValueError(f"{_shown(value)} is no DNS server such as 9.9.9.9 or 127.0.0.1:5399") from None
    return str(value)


def _endpoint(value: Any) -> str:
    if value == "":
        return ""
    try:
        split_endpoint(_text(value))
    except ValueError:
        raise ValueError(f"{_shown(value)} is no ADDR:PORT such as 127.0.0.1:5300") from None
    return str(value)


def _loopback_endpoint(value: Any) -> str:
    if _endpoint(value) and not ip_address(split_endpoint(value)[0]).is_loopback:
        raise ValueError(f"{_shown(value)} is not on loopback, such as 127.0.0.1:9153 or [::1]:9153")
    return str(value)


upstream = Check(_upstream, "ADDR or ADDR:PORT", _matching(r"^[\[0-9A-Fa-f:.]+(%[-_.A-Za-z0-9]+)?\]?(:[0-9]+)?$"))
"""``ADDR``, ``ADDR:PORT`` or ``[ADDR6]:PORT``."""
endpoint = Check(_endpoint, "ADDR:PORT, or empty", _matching(r"^((\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]+)?$"))
"""``ADDR:PORT`` or ``[ADDR6]:PORT``, or empty for none."""
_ON_LOOPBACK = r"^((\[[0:]*:0*1\]|127\.[0-9.]+):[0-9]+)?$"
loopback_endpoint = Check(_loopback_endpoint, "ADDR:PORT on loopback, or empty", _matching(_ON_LOOPBACK))
"""The same, of an address that only this host reaches."""


def split_endpoint(value: str, port: int | None = None) -> tuple[str, int]:
    """Address and port of ``ADDR:PORT``; ``port`` is used when none is written. Raises ValueError."""
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        if rest[:1] not in ("", ":"):
            raise ValueError(f"{value} has no colon before its port")
        number = rest[1:]
    elif value.count(":") == 1:
        host, _, number = value.partition(":")
    else:
        host, number = value, ""
    if number == "" and port is not None and not value.endswith(":"):
        return str(ip_address(host)), port
    if not (number.isascii() and number.isdigit() and 0 <= int(number) <= 65535):
        raise ValueError(f"{value} has no port")
    return str(ip_address(host)), int(number)


def _list(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_shown(value)} is no list")
    return tuple(value)


def each(check: Check, *, key: str = "") -> Check:
    """A list, every item of it by ``check``. No two items may have the same ``key``, an attribute, if it is given."""

    def accept(value: Any) -> tuple[Any, ...]:
        items = _list(value)
        keys = [getattr(item, key) for item in items] if key else []
        again = next((one for number, one in enumerate(keys) if one in keys[:number]), None)
        if again is not None:
            raise ValueError(f"{_shown(again)} is there twice")
        return items

    return Check(accept, f"list of: {check.kind}", {"type": "array", "items": check.schema}, item=check)


def auto_or_each(check: Check) -> Check:
    """``auto`` (None), or a list."""
    listed = each(check)
    schema = {"anyOf": [{"const": "auto"}, listed.schema]}
    return Check(lambda value: None if value == "auto" else _list(value), f"auto, or {listed.kind}", schema, item=check)


def record(make: Callable[..., Any], keys: Mapping[str, Check]) -> Check:
    """A mapping with exactly ``keys``; ``make`` is called with what they hold, dashes made underscores."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict) or set(value) != set(keys):
            raise ValueError(f"{_shown(value)} is no mapping with the keys {' and '.join(keys)}, and no others")
        return make(**{key.replace("-", "_"): part for key, part in value.items()})

    schema = {
        "type": "object",
        "properties": {key: part.schema for key, part in keys.items()},
        "required": list(keys),
        "additionalProperties": False,
    }
    return Check(check, f"mapping with {' and '.join(keys)}", schema, keys=keys)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
