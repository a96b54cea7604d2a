"""The files that macOS keeps in /etc/resolver: one DNS client each (resolver(5) of macOS). Pure.

The name of the file is the domain it is for, unless a ``domain`` line says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resolverd.host import Server
from resolverd.names import Address, address_of, fold

MARKER = "# resolverd"
"""The whole first line of a file of ours; a file that begins otherwise is somebody else's."""
SEARCH = "search.resolverd"
"""The file that has nothing but our search domains; nobody asks for names below such a domain."""
DRAFT = ".resolverd-draft"
"""What a file is called while it is written."""
MULTICAST = "local"
"""Multicast DNS's (RFC 6762): a file of this name would take Bonjour away."""
MOST_SERVERS = 3
"""MAXNS of resolver(5)."""
PORT = 53
TIMEOUT = 5
"""Seconds for a whole lookup. Without it names of ours would take half a minute each when the daemon was killed."""
_FOLDER_IS_OURS = "# the folder was made for it"


@dataclass(frozen=True, slots=True)
class ResolverFile:
    """What a file says, as far as it matters here."""

    ours: bool
    domain: str
    servers: tuple[Server, ...] = ()
    search: tuple[str, ...] = ()
    folder_is_ours: bool = False
    """We made the folder, too."""


def client(domain: str, servers: Sequence[Server], folder_is_ours: bool) -> bytes:
    """A file that sends ``domain`` to ``servers``, which share one port."""
    lines = [*_head(f"{domain} is a domain of the cluster", folder_is_ours)]
    lines += [f"nameserver {server.address}" for server in servers[:MOST_SERVERS]]
    if servers[0].port != PORT:
        lines.append(f"port {servers[0].port}")
    return _content([*lines, f"timeout {TIMEOUT}"])


def search_list(domains: Sequence[str], folder_is_ours: bool) -> bytes:
    """A file that asks nobody and has macOS try names of one label under ``domains``."""
    return _content([*_head("the cluster's search domains, then this host's own", folder_is_ours), _search(domains)])


def parse(name: str, content: bytes) -> ResolverFile:
    """What the file ``name`` says; what it does not understand is skipped, as resolver(5) does."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    domain, port = fold(name), PORT
    search: tuple[str, ...] = ()
    addresses: list[Address] = []
    for line in lines:
        match line.split():
            case ["domain", text, *_]:
                domain = fold(text).strip(".")
            case ["nameserver", text, *_] if (address := address_of(text.partition("%")[0])) is not None:
                addresses.append(address)
            case ["port", text, *_] if text.isascii() and text.isdigit():
                port = int(text)
            case ["search", *texts]:
                search = tuple(fold(text).strip(".") for text in texts)
    return ResolverFile(
        ours=lines[:1] == [MARKER],
        domain=domain,
        servers=tuple(Server(address, port) for address in addresses),
        search=search,
        folder_is_ours=_FOLDER_IS_OURS in lines,
    )


def _head(what: str, folder_is_ours: bool) -> list[str]:
    rules = "# Removed when resolverd stops; written anew when it is changed meanwhile."
    return [MARKER, f"# {what}", rules, *([_FOLDER_IS_OURS] if folder_is_ours else [])]


def _search(domains: Sequence[str]) -> str:
    return " ".join(["search", *domains])


def _content(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
