"""Failures as the Kubernetes API words them: one exception that knows its ``Status`` body.

Messages and fields follow what kube-apiserver 1.36 answers, since clients match on ``reason`` and people on text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .resources import Resource

Raw = dict[str, Any]


class StatusError(Exception):
    """A request that fails with HTTP status ``code`` and a ``Status`` object as its body."""

    def __init__(self, code: int, reason: str, message: str, details: Raw | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continuation = ""
        """A token to go on with, for an expired chunked list."""

    def body(self) -> Raw:
        """The ``Status`` object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continuation} if self.continuation else {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({} if self.details is None else {"details": self.details}),
            "code": self.code,
        }


def details_of(resource: Resource, name: str = "") -> Raw:
    """What a Status says about the object that it concerns."""
    return {
        **({"name": name} if name else {}),
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.plural,
    }


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def not_found(resource: Resource, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{resource.qualified} "{name}" not found', details_of(resource, name))


def already_exists(resource: Resource, name: str) -> StatusError:
    return StatusError(
        409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details_of(resource, name)
    )


def conflict(resource: Resource, name: str) -> StatusError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return StatusError(409, "Conflict", text, details_of(resource, name))


def invalid(resource: Resource, name: str, causes: Iterable[tuple[str, str]]) -> StatusError:
    """``causes`` are (field, message) pairs."""
    found = list(causes)
    listed = [f"{field}: {message}" for field, message in found]
    text = f'{resource.kind} "{name}" is invalid: ' + (listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]")
    details: Raw = {
        **({"name": name} if name else {}),
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.kind,
        "causes": [{"reason": "FieldValueInvalid", "message": message, "field": field} for field, message in found],
    }
    return StatusError(422, "Invalid", text, details)


def forbidden(resource: Resource, name: str, why: str) -> StatusError:
    subject = f'{resource.qualified} "{name}"' if name else resource.qualified
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details_of(resource, name))


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def method_not_allowed() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    text = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, "UnsupportedMediaType", text + ", ".join(accepted))


def not_acceptable() -> StatusError:
    text = "only the following media types are accepted: application/json"
    return StatusError(406, "NotAcceptable", text)
