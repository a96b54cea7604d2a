"""What a real kube-apiserver 1.36 answered (``tests/recordings``), and how an answer of ours is held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Raw = dict[str, Any]

_DIRECTORY = Path(__file__).parent / "recordings"

_VOLATILE = frozenset({
    "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "lastTransitionTime", "startedAt", "generation",
    "clusterIP", "clusterIPs", "addresses", "podIP", "podIPs", "ip", "hostIP", "imageID", "continue", "serverAddress",
    "remainingItemCount", "time", "containerID",
})  # fmt: skip
"""Fields of which only the type can agree."""
_LEFT_OUT = frozenset({"managedFields", "storageVersionHash", "volumes", "volumeMounts", "annotations", "subresource"})
"""Fields that the demo cluster leaves out on purpose: nobody applies on the server side, or mounts anything."""


def exchanges(theme: str) -> list[Raw]:
    """The exchanges of one recording."""
    found: list[Raw] = json.loads((_DIRECTORY / f"{theme}.json").read_text())["exchanges"]
    return found


def applied(raw: Raw) -> Raw:
    """The manifest that a recorded object was made from: kubectl has noted it in an annotation."""
    text = raw["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    manifest: Raw = json.loads(text)
    return manifest


def differences(recorded: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Where ``ours`` is not what was recorded: missing and unknown keys, other types, other values.

    Empty mappings and lists that only say "nothing" on one side count as missing.
    """
    if type(recorded) is not type(ours):
        yield f"{path}: recorded {recorded!r}, ours {ours!r}"
    elif isinstance(recorded, dict):
        for key in sorted({*recorded, *ours} - _LEFT_OUT):
            if key not in ours:
                yield f"{path}.{key}: recorded {recorded[key]!r}, ours lacks it"
            elif key not in recorded:
                yield f"{path}.{key}: not recorded, ours {ours[key]!r}"
            elif key in _VOLATILE:
                if type(recorded[key]) is not type(ours[key]):
                    yield f"{path}.{key}: recorded {recorded[key]!r}, ours {ours[key]!r}"
            else:
                yield from differences(recorded[key], ours[key], f"{path}.{key}")
    elif isinstance(recorded, list):
        if len(recorded) != len(ours):
            yield f"{path}: recorded {len(recorded)} items, ours {len(ours)}"
        for index, (theirs, mine) in enumerate(zip(recorded, ours, strict=False)):
            yield from differences(theirs, mine, f"{path}[{index}]")
    elif recorded != ours and not _same_but_for_the_suffix(recorded, ours):
        yield f"{path}: recorded {recorded!r}, ours {ours!r}"


def _same_but_for_the_suffix(recorded: Any, ours: Any) -> bool:
    """Whether both are generated names with the same beginning."""
    generated = re.compile(r"(.+-)[a-z0-9]{5}")
    left, right = generated.fullmatch(str(recorded)), generated.fullmatch(str(ours))
    return left is not None and right is not None and left[1] == right[1]
