"""One thing that must be so: what ``status`` and ``doctor`` list. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """``id`` is stable; ``fix`` says what to do when it is not ``ok``."""

    id: str
    ok: bool
    detail: str
    fix: str = ""
