"""The Open Inference Protocol v2 over HTTP, for KServe's and Triton's clients.

Source: kserve.github.io, Open Inference Protocol; Triton's binary tensor data extension.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from importlib.metadata import version
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.routing import Match

from moodal.bundle import Info
from moodal.serve import documents_v2, limits, rows_v2, unpack, visit
from moodal.serve.answers import LARGE_BYTES
from moodal.serve.documents_v2 import (
    BODY,
    LENGTH,
    WORDS,
    Live,
    ModelReady,
    Ready,
    ServerAbout,
    always,
    errors,
)
from moodal.serve.errors import RefusalError
from moodal.serve.rows_v2 import Column, ModelAbout
from moodal.serve.service import Answer, Service
from moodal.serve.tensors import InferRequest, InferResponse, Wire, compose, parse
from moodal.serve.visit import Visit, visit_of
from moodal.types import Record, Rejection

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], responses=always())

    @routes.get("", response_model=ServerAbout)
    async def server() -> Response:
        """What this is."""
        extensions = ["binary_tensor_data"]
        return _json(ServerAbout(name="moodal", version=version("moodal"), extensions=extensions))

    @routes.get("/health/live", response_model=Live)
    async def live() -> Response:
        """The process lives."""
        return _json(Live(live=True))

    @routes.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}})
    async def ready() -> Response:
        """The model is warm and the engine runs."""
        return _json(Ready(ready=service.ready), 200 if service.ready else 503)

    for path in ("/models/{name}", "/models/{name}/versions/{model_version}"):
        _model_routes(routes, service, path)

    @routes.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request, rest: str) -> Response:
        return _wrong(_unknown(rest, _methods(routes, request)))

    return routes


def _model_routes(routes: APIRouter, service: Service, path: str) -> None:
    """Of a model, or of one version of it."""
    named = documents_v2.named(path)
    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": ModelReady}}
    not_found, refused = errors(401, 404), errors(*WORDS)

    @routes.get(path, response_model=ModelAbout, responses=not_found, openapi_extra=named)
    async def model(request: Request) -> Response:
        """The model's tensors."""
        return await _answered(request, _about(service, request))

    @routes.get(
        f"{path}/ready",
        response_model=ModelReady,
        responses=not_found | not_ready,
        openapi_extra=named,
    )
    async def ready(request: Request) -> Response:
        """Whether this model answers."""
        return await _answered(request, _ready(service, request))

    @routes.post(
        f"{path}/infer",
        response_model=InferResponse,
        responses=refused,
        openapi_extra=named | BODY,
    )
    async def infer(request: Request) -> Response:
        """Answer records, a row each; a row that fails has {"error"} as its `answer`."""
        return await _answered(request, _infer(service, request))


def _methods(routes: APIRouter, request: Request) -> list[str]:
    """Those that this path does know."""
    known = [route for route in routes.routes if isinstance(route, APIRoute)]
    partly = [r for r in known if r.matches(request.scope)[0] is Match.PARTIAL]
    return sorted({method for route in partly for method in route.methods or ()})


def _unknown(path: str, methods: list[str]) -> RefusalError:
    if not methods:
        return RefusalError("not_found", f"protocol v2 has no {path[:100]!r} here")
    allowed = ", ".join(methods)
    return RefusalError(
        "method_not_allowed", f"{path[:100]!r} knows {allowed}", headers={"allow": allowed}
    )


async def _answered(request: Request, response: Awaitable[Response]) -> Response:
    """A refusal in the protocol's own shape; the edge is told its code, to count and log it."""
    try:
        return await response
    except RefusalError as error:
        visit_of(request).code = error.code
        return _wrong(error)


async def _about(service: Service, request: Request) -> Response:
    _identify(service, request)
    info = _found(service, request)
    return _json(rows_v2.about(info, service.version, _inputs(service, info)))


async def _ready(service: Service, request: Request) -> Response:
    _identify(service, request)
    info = _found(service, request)
    return _json(ModelReady(name=info.name, ready=service.ready), 200 if service.ready else 503)


async def _infer(service: Service, request: Request) -> Response:
    came = _identify(service, request)
    info = _found(service, request)
    body = await visit.body(service, request)
    headers = request.headers
    encoding, length = headers.get("content-encoding", ""), _length(headers.get(LENGTH))
    most = int(service.settings.limits.megabytes * limits.MEGABYTE)
    n_bytes = unpack.expected(body, encoding, most)
    service.room.enter(n_bytes)
    came.held_bytes += n_bytes

    def read() -> Asked:
        return _read(unpack.unpacked(body, encoding, most), length, service, info)

    heavy = len(body) + n_bytes > LARGE_BYTES
    asked = await asyncio.to_thread(read) if heavy else read()
    service.rate.take(came.who, len(asked.records))
    explain = asked.request.parameters.get("explain") is True
    answers = await service.answers(asked.records, source="v2", caller=came.caller, explain=explain)
    _raise_if_none(answers)
    told = rows_v2.told(answers, asked.outputs)
    about = {"model_name": info.name, "model_version": service.version}
    content, json_bytes = compose(asked.request, told, about)
    if json_bytes is None:
        return Response(content, media_type="application/json")
    return Response(
        content, headers={LENGTH: str(json_bytes)}, media_type="application/octet-stream"
    )


class Asked(NamedTuple):
    """outputs: those to send, in their order."""

    request: InferRequest
    records: list[Record | Rejection]
    outputs: dict[str, Column]


def _read(body: bytes, length: int | None, service: Service, info: Info) -> Asked:
    """Raises: RefusalError."""
    request, tensors = parse(body, length)
    outputs = rows_v2.wanted(request, rows_v2.outputs(info))
    records = rows_v2.records(tensors, _inputs(service, info))
    if len(records) > (most := service.settings.limits.records):
        raise RefusalError(
            "invalid", f"has {len(records)} rows, at most {most} are answered", "inputs"
        )
    return Asked(request, records, outputs)


def _identify(service: Service, request: Request) -> Visit:
    """Who asks, who is not checked before. Raises: RefusalError (401)."""
    came = visit_of(request)
    came.caller = service.identify(came.headers)
    came.who = came.caller or came.who
    return came


def _inputs(service: Service, info: Info) -> dict[str, Column]:
    return rows_v2.inputs(info, heard=service.settings.transcriber is not None)


def _found(service: Service, request: Request) -> Info:
    """The model that was asked for. Raises: RefusalError (404), when it is not this one."""
    info, name = service.model.info, request.path_params["name"]
    model_version = request.path_params.get("model_version")
    if name != info.name or model_version not in (None, service.version):
        asked = name if model_version is None else f"{name}, version {model_version}"
        raise RefusalError(
            "not_found",
            f"there is no model {asked[:100]!r}; this is {info.name!r}, version {service.version}",
        )
    return info


def _length(given: str | None) -> int | None:
    """Raises: RefusalError."""
    if given is None:
        return None
    if not given.isascii() or not given.isdigit():
        raise RefusalError("bad_request", f"{LENGTH} is {given[:20]!r}, not a number of bytes")
    return int(given)


def _raise_if_none(answers: list[Answer]) -> None:
    """A request of which no row could be answered is refused for what was wrong with the first."""
    if all("error" in answer for answer in answers):
        first = answers[0]["error"]
        raise RefusalError(first["code"], first["message"], first["field"])


def _json(values: Wire, status: int = 200) -> Response:
    return Response(to_json(values), status, media_type="application/json")


def _wrong(error: RefusalError) -> Response:
    """The protocol knows one status for whatever is wrong in a request: 400."""
    status = 400 if error.status == 422 else error.status
    message = f"{error.field}: {error.message}" if error.field else error.message
    return Response(
        to_json({"error": message}), status, dict(error.headers), media_type="application/json"
    )
