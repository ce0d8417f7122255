"""OpenAPI of protocol v2: what its routes take and tell, and every way in which they may refuse."""

from __future__ import annotations

import re
from typing import Any

from moodal.serve import documents
from moodal.serve.tensors import InferRequest, Wire

LENGTH = "inference-header-content-length"
"""The header that says how much of a body is JSON, where bytes follow."""


class ServerAbout(Wire):
    name: str
    version: str
    extensions: list[str]


class Live(Wire):
    live: bool


class Ready(Wire):
    ready: bool


class ModelReady(Wire):
    name: str
    ready: bool


class Wrong(Wire):
    error: str


def _schema() -> dict[str, Any]:
    """Of a request's JSON, whole in itself: the document's parts do not hold what is in it."""
    schema = InferRequest.model_json_schema()
    parts = schema.pop("$defs")
    schema["properties"]["inputs"]["items"] = parts["InputTensor"]
    schema["properties"]["outputs"]["anyOf"][0]["items"] = parts["OutputAsked"]
    return schema


WORDS = {
    400: "The request is wrong.",
    401: "No API key, or an unknown one.",
    404: "There is no such model, or no such version of it.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is packed in a way that is not read.",
    429: "Too much was asked for; Retry-After says when to come again.",
    503: "Not now; Retry-After says when to come again.",
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _schema()},
            "application/octet-stream": {
                "schema": {"description": f"JSON of so many bytes as {LENGTH} says, then tensors."}
            },
        },
    }
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {s: {"model": Wrong, "description": WORDS[s]} for s in statuses}


def always() -> dict[int | str, dict[str, Any]]:
    """What the edge may say to any of them, in the service's own shape."""
    return dict(documents.refusals()["responses"])


def named(path: str) -> dict[str, Any]:
    """The parameters in a path."""
    names = re.findall(r"{(\w+)}", path)
    return {"parameters": [_parameter(name) for name in names]}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
