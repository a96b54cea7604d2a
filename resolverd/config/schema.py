"""The config file as a JSON Schema, for editors and CI."""

from __future__ import annotations

from typing import Any

from resolverd.config.known import SECTIONS, Known, written

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Draft 2020-12. Whatever it refuses, the checks refuse; they compare, too, what a schema cannot."""
    return {
        "$schema": DRAFT,
        "title": "resolverd config file",
        **_mapping(
            {name: _mapping({key: _setting(one) for key, one in keys.items()}) for name, keys in SECTIONS.items()}
        ),
    }


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    """Nothing at all is an empty mapping, too."""
    return {"type": ["object", "null"], "additionalProperties": False, "properties": properties}


def _setting(known: Known) -> dict[str, Any]:
    return {"description": known.help, "default": written(known.default), **known.check.schema}
