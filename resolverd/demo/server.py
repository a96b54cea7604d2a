"""The API over HTTP: from a request to the part that answers it, and from a failure to its Status."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from aiohttp import web

from . import tables
from .discovery import HEALTH_PATHS, document
from .faults import Faults
from .lists import list_objects
from .options import ListOptions
from .patch import merge_patch, strategic_merge_patch
from .pod_servers import PodServers
from .port_forward import answer as forward
from .registry import Registry
from .resources import ACCESS_REVIEWS, RULES_REVIEWS, Target, parse_path
from .rights import Rights, User, review_access, review_rules
from .status import (
    StatusError,
    bad_request,
    details_of,
    method_not_allowed,
    no_such_path,
    not_acceptable,
    unsupported_media_type,
)
from .watches import Habits, Watch

Raw = dict[str, Any]

_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge_patch,
}
_LARGEST_BODY = 3 * 2**20
"""Octets of a request's body, as the real server takes them."""


class ApiServer:
    """The handler of every request."""

    def __init__(self, registry: Registry, servers: PodServers, rights: Rights, faults: Faults, habits: Habits) -> None:
        self._registry = registry
        self._servers = servers
        self._rights = rights
        self._faults = faults
        self._habits = habits
        self.asked: deque[tuple[str, str]] = deque(maxlen=10_000)
        """Method and path, with its query, of the latest requests."""

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            self.asked.append((request.method, request.path_qs))
            await self._faults.admit(request)
            response = await self._answer(request)
            if isinstance(response, web.Response):
                response = await self._faults.spoil(request, response)
        except StatusError as error:
            response = _json(error.body(), error.code)
            if pause := (error.details or {}).get("retryAfterSeconds"):
                response.headers["Retry-After"] = str(pause)
        if not response.prepared:
            response.headers.setdefault("Audit-Id", str(uuid4()))
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = self._rights.authenticate(request.headers.get("Authorization", ""))
        target = parse_path(request.path)
        if target is None:
            return self._answer_path(request, user)
        verb = _verb(request, target)
        self._rights.check(user, verb, target)
        if target.subresource:
            return await self._forward(request, user, target)
        if verb in ("get", "list", "watch"):
            return await self._read(request, verb, target)
        return await self._write(request, user, verb, target)

    def _answer_path(self, request: web.Request, user: User) -> web.Response:
        self._rights.check_path(user, request.path)
        if request.path.rstrip("/") in HEALTH_PATHS:
            return web.Response(text="ok", headers={"Cache-Control": "no-cache, private"})
        found = document(request.path, request.host)
        if found is None:
            raise no_such_path()
        if request.method != "GET":
            raise method_not_allowed()
        return _json(found)

    async def _forward(self, request: web.Request, user: User, target: Target) -> web.StreamResponse:
        """A websocket is a GET, but since Kubernetes 1.35 it needs the right to create as well."""
        self._rights.check(user, "create", target)
        pod = self._registry.get(target.resource, target.namespace, target.name)
        return await forward(request, pod, self._servers, self._faults)

    async def _read(self, request: web.Request, verb: str, target: Target) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        if accept and "json" not in accept and "*" not in accept:
            raise not_acceptable()
        include = request.query.get("includeObject", "")

        def shape(raw: Raw) -> Raw:
            return tables.table(target.resource, raw, include) if tables.is_wanted(accept) else raw

        if verb == "get":
            return _json(shape(self._registry.get(target.resource, target.namespace, target.name)))
        options = ListOptions.parse(target, request.query)
        if verb == "watch":
            watch = Watch(self._registry.store, options, self._faults, self._habits, shape)
            return await watch.answer(request)
        return _json(shape(list_objects(self._registry.store, options)))

    async def _write(self, request: web.Request, user: User, verb: str, target: Target) -> web.Response:
        if request.query.get("dryRun"):
            raise bad_request("dryRun is not supported by the demo cluster")
        resource, namespace, name = target.resource, target.namespace, target.name
        if verb == "delete":
            return self._deleted(target, self._registry.delete(resource, namespace, name))
        if verb == "deletecollection":
            return self._delete_all(ListOptions.parse(target, request.query))
        if verb == "patch":
            apply = _PATCHES.get(request.content_type)
            if apply is None:
                raise unsupported_media_type(_PATCHES)
            patch = await _body(request)
            patched = apply(self._registry.get(resource, namespace, name), patch)
            return _json(self._registry.replace(resource, namespace, name, patched))
        if request.headers.get("Content-Type") and request.content_type != "application/json":
            raise unsupported_media_type(["application/json"])
        given = await _body(request)
        if verb == "update":
            return _json(self._registry.replace(resource, namespace, name, given))
        if resource is ACCESS_REVIEWS:
            return _json(review_access(user, given), 201)
        if resource is RULES_REVIEWS:
            return _json(review_rules(user, given), 201)
        return _json(self._registry.create(resource, namespace, given), 201)

    def _deleted(self, target: Target, gone: Raw) -> web.Response:
        if target.resource.returns_deleted:
            return _json(gone)
        details = {**details_of(target.resource, target.name), "uid": gone["metadata"]["uid"]}
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _delete_all(self, options: ListOptions) -> web.Response:
        found = list_objects(self._registry.store, options)
        for raw in found["items"]:
            metadata = raw["metadata"]
            self._registry.delete(options.target.resource, metadata.get("namespace", ""), metadata["name"])
        return _json(found)


def _verb(request: web.Request, target: Target) -> str:
    """What the request wants, as rights name it. StatusError 405."""
    one = bool(target.name)
    match request.method:
        case "GET" if target.subresource:
            verb = "get"
        case "GET":
            watching = ListOptions.parse(target, request.query).watch
            verb = "watch" if watching else ("get" if one else "list")
        case "POST":
            verb = "" if one and not target.subresource else "create"
        case "DELETE":
            verb = "delete" if one else "deletecollection"
        case "PUT" | "PATCH" if one:
            verb = "update" if request.method == "PUT" else "patch"
        case _:
            verb = ""
    known = target.resource.verbs
    if target.subresource:
        known = next(verbs for name, _, verbs in target.resource.subresources if name == target.subresource)
    if verb not in known:
        raise method_not_allowed()
    return verb


async def _body(request: web.Request) -> Raw:
    """The JSON object that was sent. StatusError 400, 413."""
    try:
        given = json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise StatusError(413, "RequestEntityTooLarge", f"limit is {_LARGEST_BODY}") from None
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(given, dict):
        raise bad_request("couldn't get version/kind; json parse error: not an object")
    return given


def _json(raw: Raw, status: int = 200) -> web.Response:
    body = json.dumps(raw, separators=(",", ":")).encode() + b"\n"
    headers = {"Cache-Control": "no-cache, private", "Content-Type": "application/json"}
    return web.Response(body=body, status=status, headers=headers)
