"""OpenAPI: what each route takes, and every way in which it may refuse."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from moodal.serve.errors import CODES
from moodal.serve.schema import AskMany, AskOne, Body, Failed, Feedback, Ready
from moodal.serve.settings import Limits, Serve

JSON = "application/json"
SUMMARY = "Texts, pictures and recordings in, sentiment out."
REFS = "#/components/schemas/{model}"
_WORDS = {
    400: "The body cannot be read as what it claims to be.",
    401: "No API key, or an unknown one.",
    403: "From a page of another site, or under another name for this service.",
    404: "There is no such thing.",
    405: "The path knows other methods.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another kind.",
    422: "A value is wrong; the field says which.",
    429: "Too much was asked for; Retry-After says when to come again.",
    500: "A fault of the service.",
    503: "Not now; Retry-After says when to come again.",
}
ALWAYS = (401, 403, 500)


def refusals(*statuses: int, kind: str | None = None) -> dict[str, Any]:
    """What a route's decorator is given: each status with the one shape of errors.

    kind: the media type of its answer, where that is no JSON.
    """
    assert set(statuses) <= set(CODES.values()), "every status has a code"
    failed = {"content": {JSON: {"schema": {"$ref": REFS.format(model=Failed.__name__)}}}}
    told: dict[int, Any] = {
        status: {**failed, "description": _WORDS[status]} for status in sorted({*statuses, *ALWAYS})
    }
    if kind is None:
        return {"responses": told}
    told[200] = {"description": "It.", "content": {kind: {"schema": {"type": "string"}}}}
    return {"responses": told, "response_class": Response}


def ready() -> dict[str, Any]:
    """As refusals, of the route whose 503 says what is not ready."""
    told = refusals()
    told["responses"][503] = {"model": Ready, "description": "Not yet, or no longer."}
    return told


def asked(limits: Limits) -> dict[str, dict[str, Any]]:
    """For the decorators of routes that read their bodies themselves: one record, several, a
    judgement; with the limits that hold."""
    whole = (400, 408, 413, 415, 422, 429, 503)
    one, many, feedback = _schema(AskOne), _schema(AskMany), _schema(Feedback)
    many["properties"]["records"]["maxItems"] = limits.records
    feedback["properties"]["comment"]["maxLength"] = limits.comment_characters
    return {
        "one": _extra({JSON: one, "multipart/form-data": _form(limits)}) | refusals(*whole),
        "many": _extra({JSON: many}) | refusals(*whole),
        "feedback": _extra({JSON: feedback}) | refusals(*whole, 404),
    }


def _extra(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def _schema(body: type[Body]) -> dict[str, Any]:
    schema = body.model_json_schema(ref_template=REFS)
    schema.pop("$defs", None)
    return schema


def _form(limits: Limits) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string", "maxLength": limits.characters},
            "image": {**file, "description": "A picture file."},
            "audio": {**file, "description": "A sound file."},
            "explain": {"type": "boolean"},
            "id": {"type": "string", "maxLength": 200},
        },
    }


def document(app: FastAPI, settings: Serve) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            summary=SUMMARY,
            routes=app.routes,
        )
        for shape in (AskMany, Failed):  # which routes refer to, and FastAPI does not know of
            schema = shape.model_json_schema(ref_template=REFS)
            parts = schema.pop("$defs", {})
            made["components"]["schemas"] |= {**parts, shape.__name__: schema}
        if settings.api_keys is not None:
            _lock(made, settings)
        app.openapi_schema = made
    return app.openapi_schema


def _lock(made: dict[str, Any], settings: Serve) -> None:
    """Every operation needs a key, but for those that tell nothing."""
    made["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    shut: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    for path, methods in made["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if settings.is_open(path) else shut
