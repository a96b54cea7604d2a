"""What an API server that lacks a resource is: an old Kubernetes, or no Kubernetes at all."""

from __future__ import annotations

from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.errors import one_line

OLDEST = "1.21"
"""The first Kubernetes that serves all we follow: discovery.k8s.io/v1 came with it (KEP-752)."""


async def explained(
    client: ApiClient, error: ApiError | UnreachableError, group_version: str
) -> ApiError | UnreachableError:
    """``error``, or when it says that there is no such list: which Kubernetes has none, as ``/version`` tells.

    ``group_version`` is the beginning of the list's path: ``/apis/discovery.k8s.io/v1``.
    """
    if not isinstance(error, ApiError) or error.status != 404:
        return error
    try:
        version = (await client.get("/version")).get("gitVersion")
    except (ApiError, UnreachableError):
        return error
    if not isinstance(version, str) or not version:
        return error
    api = group_version.removeprefix("/apis/").removeprefix("/api/")
    why = f"it does not serve {api}: it is Kubernetes {one_line(version)}"
    return ApiError(error.what, why, f"it takes Kubernetes {OLDEST} or newer", error.status, error.reason)
