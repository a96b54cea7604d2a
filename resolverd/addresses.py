"""Addresses as numbers: tables hold a hundred thousand, and reading them from text is most of what a change costs."""

from __future__ import annotations

from resolverd.names import Address, address_of

_V6 = 1 << 128
"""IPv4 addresses are smaller numbers than this, IPv6 addresses are given larger ones."""
_OCTETS = {str(octet): octet for octet in range(256)}


def number_of(address: Address) -> int:
    """A number for ``address`` that no other address has; those of a network follow each other."""
    return int(address) + (0 if address.version == 4 else _V6)


def number_in(text: str) -> int | None:
    """The number of the address that ``text`` spells (:func:`plain_address`), or None."""
    parts = text.split(".")
    if len(parts) == 4:
        try:
            first, second, third, fourth = (_OCTETS[part] for part in parts)
        except KeyError:
            pass  # no address, or an IPv6 one with an IPv4 one in it
        else:
            return first << 24 | second << 16 | third << 8 | fourth
    address = plain_address(text)
    return None if address is None else number_of(address)


def block_of(number: int) -> int:
    """The block of 256 IPv4 or 65,536 IPv6 addresses that an address is in: a cluster has few of them."""
    return number >> BLOCK_BITS[4 if number < _V6 else 6]


BLOCK_BITS = {4: 8, 6: 16}
"""By IP version."""


def plain_address(text: str) -> Address | None:
    """The address ``text`` spells, an IPv4-mapped IPv6 address as the IPv4 address it is; None for other text."""
    address = address_of(text)
    if address is not None and address.version == 6 and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
