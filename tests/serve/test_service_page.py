"""docs/service.md says what is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from moodal.serve.errors import CODES
from moodal.serve.settings import OPEN, Serve
from tests.serve.conftest import Running
from tests.serve.test_asking import PICTURE, SOUND

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"


def examples() -> list[list[str]]:
    """Each curl command of the page that needs no key."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", "").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("curl ") and HERE in line]


def test_every_code_is_listed_with_its_status() -> None:
    listed = {
        code: int(status)
        for status, codes in re.findall(r"^\| (\d{3}) \| ([^|]+) \|", PAGE, re.MULTILINE)
        for code in re.findall("`(.*?)`", codes)
    }
    assert listed == CODES


def test_settings_that_are_named_are_there() -> None:
    limits = set(type(Serve().limits).model_fields)
    assert set(re.findall(r"limits\.(\w+)", PAGE)) <= limits
    for name in ("queue", "wait_seconds", "reload_seconds", "private_docs", "log_requests"):
        assert f"`{name}" in PAGE
        assert name in Serve.model_fields


def test_paths_that_need_no_key_are_named() -> None:
    for path in OPEN:
        assert f"`{path}`" in PAGE or path.startswith("/v2/health/")


def test_every_path_that_is_named_is_there(server: Running) -> None:
    there = {re.sub("{.*?}", "{}", p) for p in server.get("/openapi.json").json()["paths"]}
    named = set(re.findall(r"`(?:GET )?(/v1/[\w/{}]+|/healthz|/readyz|/metrics)", PAGE))
    assert {re.sub("{.*?}", "{}", path) for path in named} <= there


@pytest.mark.parametrize("command", examples(), ids=lambda c: c[-1].removeprefix(HERE))
def test_what_can_be_typed_is_answered(server: Running, command: list[str]) -> None:
    path = command[-1].removeprefix(HERE)
    values = dict(zip(command[1:-1:2], command[2:-1:2], strict=True))
    if "-d" in values:
        body = json.loads(values["-d"])
        if "prediction_id" in body:
            answer = server.post("/v1/predict", {"text": "good"}).json()
            body |= {"prediction_id": answer["prediction_id"], "label": "good"}
        reply = server.post(path, body)
    elif "-F" in values:
        fields = dict(f.split("=", 1) for f in command[2:-1:2])
        media: dict[str, Any] = {"image": PICTURE, "audio": SOUND}
        reply = server.send(path, {k: media.get(k, v) for k, v in fields.items()})
    else:
        reply = server.get(path)
    assert reply.status == 200


def test_the_answer_that_is_shown_has_an_answers_fields(server: Running) -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert set(shown) == set(server.post("/v1/predict", {"text": "good"}).json())
