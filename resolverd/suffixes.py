"""Whose names a domain would take: the public's, a special use's, this host's, another link's. Pure.

Namespaces are named by whoever may create one in the cluster. A namespace called ``rs`` must not carry away
``docs.rs``, so every domain passes this filter before the host is told about it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum

from .at_stake import public_names, special_names
from .host import Capabilities
from .names import labels

SPECIAL_USE = frozenset(
    {
        *("example", "invalid", "localhost", "test"),  # RFC 6761
        *("local", "onion", "home.arpa", "arpa", "alt"),  # RFC 6762, 7686, 8375, 3172, 9476
        *("internal", "home", "corp", "lan"),  # ICANN's reserve, and what networks use as if it were theirs
    }
)


SHARED_PARTS = ("svc", "pod")
"""What Kubernetes has below its cluster domain: that much is the cluster's where the domain is others' too."""


class Reason(StrEnum):
    """Why a domain is not given to the host; the words of the public contract."""

    ICANN_TLD = "icann-tld"
    SPECIAL_USE = "special-use"
    HOST_SEARCH_DOMAIN = "host-search-domain"
    OTHER_LINK_DOMAIN = "other-link-domain"
    EXCLUDED = "excluded"
    DOMAIN_LIMIT = "domain-limit"
    INVALID_NAME = "invalid-name"


SHARED = frozenset({Reason.ICANN_TLD, Reason.SPECIAL_USE, Reason.HOST_SEARCH_DOMAIN})
"""Why a cluster domain is taken in part. Not where another link answers for it: that one may mean this very cluster."""


@dataclass(frozen=True, slots=True)
class Collision:
    """Why a domain is somebody else's."""

    reason: Reason
    detail: str
    stake: str = ""
    """Which names of others would go to the cluster."""


class Collisions:
    """The filter for one host at one moment.

    ``suffixes`` holds the ICANN section of a public suffix list: folded text names, IDNs as punycode.
    """

    def __init__(self, suffixes: Container[str], capabilities: Capabilities) -> None:
        self._suffixes = suffixes
        self._taken: dict[str, Collision] = {}
        for name, collision in _claims(capabilities):
            for suffix in _suffixes_of(name):
                self._taken.setdefault(suffix, collision)

    def of(self, name: str) -> Collision | None:
        """Why ``name``, a folded text name, must not be routed; None when nobody else uses it."""
        if name in SPECIAL_USE:
            return Collision(Reason.SPECIAL_USE, f".{name} is reserved for special use", special_names(name))
        if name in self._suffixes:
            return Collision(Reason.ICANN_TLD, f"public names end in .{name}", public_names(name))
        return self._taken.get(name)

    def of_cluster_domain(self, name: str) -> Collision | None:
        """As :meth:`of`; and nobody can tell which names under a public suffix are somebody's besides the cluster's.

        ``api.k8s.example.com``, the API server, is often one of them.
        """
        parents = (suffix for suffix in _suffixes_of(name) if suffix != name and suffix in self._suffixes)
        public = next(parents, None)
        if (collision := self.of(name)) is not None or public is None:
            return collision
        detail = f"it lies under the public .{public}, so that names in it may be others'"
        return Collision(Reason.ICANN_TLD, detail, f"every other name under .{name}")


def _claims(capabilities: Capabilities) -> Iterator[tuple[str, Collision]]:
    """The domains that this host uses without us."""
    for name in capabilities.host_search:
        yield name, Collision(Reason.HOST_SEARCH_DOMAIN, f"this host searches {name}", _below(name))
    for link in capabilities.other_links:
        for name in link.search:
            yield name, Collision(Reason.HOST_SEARCH_DOMAIN, f"link {link.name} searches {name}", _below(name))
        for name in link.routing:
            yield name, Collision(Reason.OTHER_LINK_DOMAIN, f"link {link.name} answers for {name}", _below(name))


def _below(name: str) -> str:
    return f"every name under .{name}"


def _suffixes_of(name: str) -> Iterator[str]:
    """``name`` and every domain above it but the root, which nobody owns: taking one takes ``name`` with it."""
    parts = labels(name)
    for start in range(len(parts)):
        yield ".".join(parts[start:])
