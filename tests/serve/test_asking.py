"""POST /v1/predict and /v1/predict/batch."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import moodal
from tests.serve.conftest import Reply, Running, form
from tests.tiny import picture, png, tone, train_once, wav

RNG = np.random.default_rng(0)
PICTURE, SOUND = png(picture("good", RNG)), wav(tone("good", RNG))
GIVEN = {"text": "this film was great", "image": PICTURE, "audio": SOUND}
CLOSE = 1e-5


def encoded(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON carries it."""
    return {
        name: base64.b64encode(v).decode() if isinstance(v, bytes) else v
        for name, v in values.items()
    }


def told(reply: Reply) -> tuple[int, str, str]:
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "field"}
    return reply.status, error["code"], error["field"]


# ---- what is answered --------------------------------------------------------------------------


def test_a_form_is_answered_as_in_process(server: Running) -> None:
    expected = moodal.load(train_once()).predict(**GIVEN).to_dict()
    answer = server.send("/v1/predict", GIVEN).json()
    assert set(answer) == {*expected, "prediction_id", "model_version"}
    assert answer["label"] == expected["label"]
    assert answer["modalities"] == ["text", "image", "audio"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=CLOSE)
    assert answer["contributions"] == pytest.approx(expected["contributions"], abs=CLOSE)
    assert answer["model_version"] == server.service.version


@pytest.mark.parametrize("names", [("text",), ("image",), ("audio",), ("text", "audio")])
def test_json_is_answered_as_a_form_whatever_is_absent(server: Running, names: Any) -> None:
    given = {name: GIVEN[name] for name in names}
    as_json = server.post("/v1/predict", {**encoded(given), "id": "a", "explain": True}).json()
    as_form = server.send("/v1/predict", {**given, "id": "a", "explain": "true"}).json()
    for answer in (as_json, as_form):
        answer.pop("prediction_id")
    assert as_json == as_form
    assert as_json["id"] == "a"
    assert bool(as_json["words"]) == ("text" in names)
    assert bool(as_json["regions"]) == ("image" in names)


def test_a_batch_answers_each_as_if_alone(server: Running) -> None:
    records = [{"text": "an awful day"}, encoded(GIVEN), encoded({"image": PICTURE}), {"text": " "}]
    alone = [server.post("/v1/predict", record).json() for record in records]
    together = server.post("/v1/predict/batch", {"records": records}).json()["answers"]
    assert [answer["id"] for answer in together] == ["0", "1", "2", "3"]
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=CLOSE)
    assert together[3]["reason"] == "empty"


def test_a_bad_record_of_a_batch_fails_alone(server: Running) -> None:
    records = [
        {"text": "good"},
        {"image": "not base64!", "id": "mine"},
        {"image": base64.b64encode(b"no picture").decode()},
        {"text": "x" * 10_001},
        {},
        {"text": "bad"},
    ]
    answers = server.post("/v1/predict/batch", {"records": records}).json()["answers"]
    assert [answer.get("error", {}).get("field") for answer in answers] == [
        None, "image", "image", "text", "", None,
    ]  # fmt: skip
    assert answers[1]["id"] == "mine"
    assert "at most 10,000 are read" in answers[3]["error"]["message"]


def test_features_are_read_where_the_model_was_trained_on_them(
    start: Callable[..., Running],
) -> None:
    reply = start().post("/v1/predict", {"image": [0.5, 1.5]})
    assert told(reply) == (422, "record", "image")
    assert "vectors, this model reads picture" in reply.json()["error"]["message"]


# ---- what is refused ---------------------------------------------------------------------------

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", JSON, (400, "not_json", "")),
        (b"{", JSON, (400, "not_json", "")),
        (b'{"text": "\\ud800"}', JSON, (400, "not_json", "")),
        (b'{"text": "\xff\xfe"}', JSON, (400, "not_json", "")),
        (b"[" * 100_000, JSON, (400, "not_json", "")),
        (b'{"text": [' + b"[" * 100_000, JSON, (400, "not_json", "")),
        (b'{"text": [1e999]}', JSON, (422, "record", "text")),
        (b'{"text": [' + b"9" * 5_000 + b"]}", JSON, (400, "not_json", "")),
        (b"[]", JSON, (422, "invalid", "")),
        (b"null", JSON, (422, "invalid", "")),
        (b"{}", JSON, (422, "record", "")),
        (b'{"text": 1}', JSON, (422, "invalid", "text")),
        (b'{"text": ["a"]}', JSON, (422, "invalid", "text")),
        (b'{"text": [NaN]}', JSON, (422, "record", "text")),
        (b'{"text": [[1], [1, 2]]}', JSON, (422, "record", "text")),
        (b'{"text": "a", "image": "/etc/passwd"}', JSON, (422, "record", "image")),
        (b'{"text": "a", "audio": "http://127.0.0.1/x"}', JSON, (422, "record", "audio")),
        (b'{"text": "a", "explain": "perhaps"}', JSON, (422, "invalid", "explain")),
        (b'{"text": "a", "path": "/etc/passwd"}', JSON, (422, "invalid", "path")),
        (b'{"id": "%s"}' % (b"x" * 201), JSON, (422, "invalid", "id")),
        (b'{"text": "%s"}' % (b"x" * 10_001), JSON, (422, "record", "text")),
        (b"text=a", "application/x-www-form-urlencoded", (415, "media_type", "")),
        (b"<a/>", "text/xml", (415, "media_type", "")),
        (b"x", "multipart/form-data", (400, "not_multipart", "")),
        (b"x", "multipart/form-data; boundary=y", (400, "not_multipart", "")),
    ],
)
def test_what_is_wrong_is_told(server: Running, body: bytes, kind: str, expected: Any) -> None:
    assert told(server.request("POST", "/v1/predict", body, {"content-type": kind})) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (422, "record", "")),
        ({"text": b"\xff\xfe"}, (422, "invalid", "text")),
        ({"explain": "perhaps", "text": "a"}, (422, "invalid", "explain")),
        ({"words": "a"}, (422, "invalid", "words")),
        ({"image": b"GIF89a"}, (422, "record", "image")),
        ({"audio": b"RIFF\0\0\0\0WAVE"}, (422, "record", "audio")),
        ({"id": "x" * 201, "text": "a"}, (422, "invalid", "id")),
    ],
)
def test_what_is_wrong_with_a_form_is_told(server: Running, fields: Any, expected: Any) -> None:
    assert told(server.send("/v1/predict", fields)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE predictions; --",
        "<script>alert(1)</script>",
        "a\0b",
        "\u202eevil \ufeff\U0001f600",
        "x" * 10_000,
        "\r\nSet-Cookie: a=b",
    ],
)
def test_odd_texts_are_texts(server: Running, text: str) -> None:
    answer = server.post("/v1/predict", {"text": text, "id": text[:200]})
    assert answer.status == 200
    assert answer.json()["id"] == text[:200]
    assert "set-cookie" not in answer.headers
    found = server.post("/v1/feedback", {
        "prediction_id": answer.json()["prediction_id"],
        "correct": True,
        "comment": text.replace("\0", "")[:2000],
    })  # fmt: skip
    assert found.status == 200


def jpeg_of(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def silence(seconds: float, *, channels: int = 1, rate: int = 8000, format: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((round(seconds * rate), channels)), rate, format=format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("field", "content", "sentence"),
    [
        ("image", jpeg_of(5001, 5000), "has 25,005,000 pixels, at most 25,000,000 are read"),
        ("audio", silence(121), "has 121 seconds, at most 120 are read"),
        ("audio", silence(0.1, channels=17, format="WAV"), "has 17 channels, at most 16"),
        ("audio", silence(0.01, rate=400_000, format="WAV"), "has 400,000 samples a second"),
    ],
)
def test_a_bomb_is_refused_by_its_header(
    server: Running, field: str, content: bytes, sentence: str
) -> None:
    reply = server.send("/v1/predict", {field: content})
    assert told(reply) == (422, "record", field)
    assert sentence in reply.json()["error"]["message"]


def test_a_body_has_a_limit_with_and_without_a_length(start: Callable[..., Running]) -> None:
    running = start(limits={"megabytes": 0.01})
    reply = running.post("/v1/predict", {"text": "x" * 20_000})
    assert told(reply) == (413, "too_large", "")
    assert "20,012 bytes, at most 10,000 are read" in reply.json()["error"]["message"]
    chunks = iter([b"x" * 6_000] * 2)  # which are sent without a length
    reply = running.request("POST", "/v1/predict", chunks, {"content-type": JSON})
    assert told(reply) == (413, "too_large", "")
    assert running.post("/v1/predict", {"text": "x" * 9_000}).status == 200


def test_bodies_in_work_have_a_limit_together(start: Callable[..., Running]) -> None:
    running = start(body_megabytes=0.01)
    assert told(running.post("/v1/predict", {"text": "x" * 10_000})) == (503, "busy", "")
    for _ in range(20):  # what was let go of is free again
        assert running.post("/v1/predict", {"text": "x" * 900}).status == 200


def test_a_batch_has_a_limit(start: Callable[..., Running]) -> None:
    running = start(limits={"records": 2})
    reply = running.post("/v1/predict/batch", {"records": [{"text": "a"}] * 3})
    assert told(reply) == (422, "invalid", "records")
    assert "has 3 records, at most 2 are read" in reply.json()["error"]["message"]
    assert told(running.post("/v1/predict/batch", {"records": []})) == (422, "invalid", "records")


def test_sequences_of_features_have_a_limit(start: Callable[..., Running]) -> None:
    reply = start(limits={"vectors": 3}).post("/v1/predict", {"text": [[1.0]] * 4})
    assert "has 4 vectors, at most 3 are read" in reply.json()["error"]["message"]


def test_a_full_queue_answers_503_at_once(start: Callable[..., Running]) -> None:
    running = start(queue=64)
    with running.service._engine._lock:
        running.service._engine._held += 64
    reply = running.post("/v1/predict", {"text": "a"})
    assert told(reply) == (503, "busy", "")
    assert reply.headers["retry-after"] == "1"
    with running.service._engine._lock:
        running.service._engine._held -= 64
    assert running.post("/v1/predict", {"text": "a"}).status == 200


def test_the_rate_is_limited_and_says_when_to_come_again(start: Callable[..., Running]) -> None:
    running = start(limits={"rate": 3})
    assert running.post("/v1/predict/batch", {"records": [{"text": "a"}] * 2}).status == 200
    reply = running.post("/v1/predict/batch", {"records": [{"text": "a"}] * 2})
    assert told(reply) == (429, "rate", "")
    assert 1 <= int(reply.headers["retry-after"]) <= 20
    assert running.post("/v1/predict", {"text": "a"}).status == 200


def test_a_name_that_stands_twice_is_refused(server: Running) -> None:
    kind, body = form({"text": "a"})
    boundary = kind.partition("boundary=")[2]
    twice = body.replace(f"--{boundary}--".encode(), body, 1)
    reply = server.request("POST", "/v1/predict", twice, {"content-type": kind})
    assert told(reply) == (422, "invalid", "text")


# ---- what is kept ------------------------------------------------------------------------------


def test_an_answer_is_in_the_journal(start: Callable[..., Running]) -> None:
    running = start()
    answer = running.send("/v1/predict", GIVEN).json()
    assert running.service.spool.flush(20)
    row = running.service.journal.find(answer["prediction_id"])
    assert row is not None
    assert (row.label, row.model, row.source) == (answer["label"], answer["model_version"], "http")
    assert (row.modalities, row.language) == ("text+image+audio", "en")
    assert row.probabilities == pytest.approx(answer["probabilities"])
    assert {"text.length", "image.brightness", "audio.seconds"} <= set(row.measures)
    assert 0 < row.seconds < 60
    assert row.inputs == {}


def test_inputs_are_kept_where_that_is_asked_for(
    start: Callable[..., Running], tmp_path: Any
) -> None:
    running = start(keep_inputs=tmp_path / "inputs")
    answer = running.send("/v1/predict", GIVEN).json()
    running.send("/v1/predict", {"image": b"no picture"})
    assert running.service.spool.flush(20)
    row = running.service.journal.find(answer["prediction_id"])
    assert row is not None
    assert set(row.inputs) == set(GIVEN)
    for modality, content in (("text", GIVEN["text"].encode()), ("image", PICTURE)):
        kept = running.get(f"/v1/inputs/{row.inputs[modality]}")
        assert kept.body == content
    assert len([p for p in (tmp_path / "inputs").rglob("*") if p.is_file()]) == 3


def test_an_answer_is_given_though_its_input_cannot_be_kept(
    start: Callable[..., Running], tmp_path: Any
) -> None:
    running = start(keep_inputs=tmp_path / "inputs")
    (tmp_path / "inputs").rmdir()
    (tmp_path / "inputs").write_text("in the way")
    assert running.send("/v1/predict", {"text": "good"}).status == 200
    assert "moodal_inputs_failed_total 1.0" in running.get("/metrics").body.decode()


def test_numbers_are_json(server: Running) -> None:
    body = server.post("/v1/predict", {"text": "good"}).body
    json.loads(body, parse_constant=pytest.fail)
