"""OpenAPI says what is so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from moodal.serve import keys
from moodal.serve.errors import CODES
from tests.serve.conftest import Reply, Running
from tests.serve.test_asking import GIVEN, encoded


@pytest.fixture(scope="session")
def document(server: Running) -> Any:
    return server.get("/openapi.json").json()


def schema_of(document: Any, path: str, method: str, status: int) -> Any:
    """The schema of an answer, its references within reach."""
    answer = document["paths"][path][method]["responses"][str(status)]
    return {
        **answer["content"]["application/json"]["schema"],
        "components": document["components"],
    }


def conforms(document: Any, reply: Reply, path: str, method: str = "get") -> None:
    schema = schema_of(document, path, method, reply.status)
    jsonschema_rs.validate(schema, reply.json())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (found for key, found in value.items() if key == "$ref")
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_openapi_3_1_and_refers_to_what_is_there(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    for reference in set(references(document)):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_route_tells_every_error_in_one_shape(document: Any) -> None:
    for path, methods in document["paths"].items():
        if path.startswith("/v2"):  # the other protocol has a shape of its own
            continue
        for operation in methods.values():
            answers = operation["responses"]
            assert {"401", "403", "500"} <= set(answers)
            for status, answer in answers.items():
                if status == "200" or (path, status) == ("/readyz", "503"):
                    continue
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Failed"}, (path, status)
                assert int(status) in CODES.values()


def test_bodies_are_described_with_their_limits(document: Any) -> None:
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    form = content["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"text", "image", "audio", "explain", "id"}
    assert form["text"]["maxLength"] == 10_000
    batch = document["paths"]["/v1/predict/batch"]["post"]["requestBody"]["content"]
    assert batch["application/json"]["schema"]["properties"]["records"]["maxItems"] == 64


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/v1/predict", {"text": "good", "explain": True}),
        ("/v1/predict", encoded({**GIVEN, "explain": True})),
        ("/v1/predict", {"text": " "}),
        ("/v1/predict", {"image": "!"}),
        ("/v1/predict", {"colour": "red"}),
        ("/v1/predict/batch", {"records": [{"text": "good"}, {"image": "!"}]}),
        ("/v1/feedback", {"prediction_id": "0" * 32, "correct": True}),
    ],
)
def test_answers_are_as_described(server: Running, document: Any, path: str, values: Any) -> None:
    conforms(document, server.post(path, values), path, "post")


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v1/model", "/v1/review", "/v1/monitor?since=1h"]
)
def test_what_is_got_is_as_described(server: Running, document: Any, path: str) -> None:
    answer = server.post("/v1/predict", {"text": "good"}).json()
    given = {"prediction_id": answer["prediction_id"], "label": "bad", "comment": "no"}
    conforms(document, server.post("/v1/feedback", given), "/v1/feedback", "post")
    conforms(document, server.get(path), path.partition("?")[0])


def test_bodies_that_are_described_are_taken(server: Running, document: Any) -> None:
    schema = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    for values in (
        {"text": "a"},
        {"text": None, "image": encoded(GIVEN)["image"]},
        {"text": [1.0]},
    ):
        jsonschema_rs.validate(schema["schema"], values)
    for values in ({"text": 1}, {"colour": "red"}, {"id": "x" * 201}, {"explain": "perhaps"}):
        assert not jsonschema_rs.is_valid(schema["schema"], values)
        assert server.post("/v1/predict", values).status == 422


def test_keys_are_described_where_they_are_needed(
    start: Callable[..., Running], tmp_path: Path, document: Any
) -> None:
    assert "security" not in document
    keys.add(tmp_path / "keys", "ann")
    locked = start(api_keys=tmp_path / "keys").get("/openapi.json").json()
    assert set(locked["components"]["securitySchemes"]) == {"bearer", "header"}
    assert locked["paths"]["/v1/predict"]["post"]["security"]
    for path in ("/healthz", "/readyz", "/metrics"):
        assert locked["paths"][path]["get"]["security"] == []


def test_it_holds_nothing_of_this_machine(document: Any) -> None:
    assert str(Path.cwd()) not in json.dumps(document)
