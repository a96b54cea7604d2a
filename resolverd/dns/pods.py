"""Names of pods by address, ``10-0-0-1.ns.pod.<domain>``, in the two ways of CoreDNS.

*Insecure*: every address has such a name in every namespace. *Verified*: a pod in that namespace has the address as its
``status.podIP``, spelled so; a second address (``podIPs``) gives no name.
"""

from __future__ import annotations

from resolverd.addresses import plain_address
from resolverd.names import Address

from .found import Asked, Found, address_records
from .index import Dependency
from .records import Record, Srv, Type
from .rules import Labels

MAX_FRONT = 2
"""Labels before the address label, which are ignored."""


def find_pod(rest: Labels, asked: Asked) -> Found:
    """Answer for ``rest`` + ``pod`` + the cluster domain."""
    if not rest:
        return Found(True)
    namespace, front = rest[-1], rest[:-1]
    depends: frozenset[Dependency] = frozenset({namespace})
    if asked.config.pod_records == "disabled" or namespace not in asked.index.snapshot.namespaces:
        return Found(False, depends=depends)
    if not front:
        return Found(True, depends=depends)
    address = dashed_address(front[-1])
    if address is None or len(front) > 1 + MAX_FRONT:
        return Found(False, depends=depends)
    if asked.config.pod_records == "verified":
        place = namespace, undashed(front[-1])
        depends |= {place}
        if not asked.index.snapshot.has_pods_of(namespace):
            return Found(False, is_known=False)
        if not asked.index.has_pod(*place):
            return Found(False, depends=depends)
    ttl = asked.config.ttl
    if asked.type == Type.SRV and (target := asked.full_name(front[-1], namespace, "pod")):
        srv = Record(asked.owner, Type.SRV, ttl, Srv(0, 100, 0, target))
        return Found(True, (srv,), address_records(target, ttl, [address]), depends)
    kind = asked.type if asked.type in (Type.A, Type.AAAA) else 0
    return Found(True, address_records(asked.owner, ttl, [address], kind), (), depends)


def dashed_address(label: str) -> Address | None:
    """The address in a pod's name."""
    return None if "." in label or ":" in label else plain_address(undashed(label))


def undashed(label: str) -> str:
    """``label`` as an address is spelled: exactly three dashes and no double one mean IPv4, else dashes are colons."""
    return label.replace("-", "." if label.count("-") == 3 and "--" not in label else ":")
