"""When credentials end, by what they say themselves: the certificate (X.509), the token (JWT). Pure."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from datetime import UTC, datetime

_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION = 0xA0
_VALIDITY_AT = 3
"""Fields of TBSCertificate between the version and the validity: serial number, signature, issuer (RFC 5280 4.1)."""


def of_certificate(pem: str) -> float | None:
    """``notAfter`` of the first certificate in ``pem``, as Unix time; None when it cannot be read."""
    begin, end = pem.find(ssl.PEM_HEADER), pem.find(ssl.PEM_FOOTER)
    if not 0 <= begin < end:
        return None
    try:
        whole = _content(ssl.PEM_cert_to_DER_cert(pem[begin : end + len(ssl.PEM_FOOTER)]))
        fields = _elements(_content(whole))
        fields = fields[1:] if fields[0][0] == _VERSION else fields
        tag, not_after = _elements(fields[_VALIDITY_AT][1])[1]
        return _time(tag, not_after.decode("ascii"))
    except (ValueError, IndexError):
        return None


def of_token(header: str) -> float | None:
    """``exp`` of a bearer token that is a JWT (RFC 7519), as Unix time; None when it is none, or has none."""
    parts = header.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = claims.get("exp")
    except (ValueError, binascii.Error, AttributeError):
        return None
    return float(ends) if isinstance(ends, int | float) else None


def _time(tag: int, text: str) -> float:
    """UTCTime has two digits of the year: from 50 on it is the last century (RFC 5280 4.1.2.5.1)."""
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _content(data: bytes) -> bytes:
    return _elements(data)[0][1]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element in DER. ValueError or IndexError when it is none."""
    found, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + length > len(data):
            raise ValueError("cut short")
        found.append((tag, data[at : at + length]))
        at += length
    return found
