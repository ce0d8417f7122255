"""POST /v1/feedback, and what a reviewer sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodal.store.ids import new_id
from tests.serve.conftest import Reply, Running
from tests.serve.test_asking import told
from tests.tiny import LABELS


def ask(running: Running, text: str = "this was great") -> Any:
    return running.post("/v1/predict", {"text": text}).json()


def say(running: Running, answer: Any, **given: Any) -> Reply:
    return running.post("/v1/feedback", {"prediction_id": answer["prediction_id"], **given})


def judged(running: Running) -> list[tuple[str, str, str]]:
    return [(j.label, j.by, j.comment) for _, j in running.service.journal.judged()]


def test_a_judgement_is_in_the_journal_when_it_is_acknowledged(
    start: Callable[..., Running],
) -> None:
    running = start()
    answer = ask(running)
    reply = say(running, answer, label="bad", comment="irony")
    assert reply.status == 200
    [(served, judgement)] = running.service.journal.judged()
    assert (served.id, judgement.id) == (answer["prediction_id"], reply.json()["id"])
    assert judged(running) == [("bad", "user", "irony")]


def test_right_is_the_label_that_was_answered(start: Callable[..., Running]) -> None:
    running = start()
    answer = ask(running)
    assert say(running, answer, correct=True).status == 200
    assert judged(running) == [(answer["label"], "user", "")]
    metrics = running.get("/metrics").body.decode()
    assert 'moodal_feedback_total{right="true"} 1.0' in metrics
    wrong = next(label for label in LABELS if label != answer["label"])
    say(running, answer, label=wrong)
    assert 'moodal_feedback_total{right="false"} 1.0' in running.get("/metrics").body.decode()


def test_a_reviewers_word_counts_most(start: Callable[..., Running]) -> None:
    running = start()
    answer = ask(running)
    say(running, answer, label="fair", reviewed=True)
    say(running, answer, label="bad")
    assert judged(running) == [("fair", "reviewer", "")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (422, "invalid", "label")),
        ({"correct": False}, (422, "invalid", "label")),
        ({"correct": True, "label": "bad"}, (422, "invalid", "label")),
        ({"label": "x" * 10_000}, (422, "label", "label")),
        ({"label": "unheard"}, (422, "label", "label")),
        ({"label": "bad\0"}, (422, "invalid", "label")),
        ({"label": 1.5}, (422, "label", "label")),
        ({"label": "bad", "comment": "x" * 2001}, (422, "invalid", "comment")),
        ({"label": "bad", "comment": "\0"}, (422, "invalid", "comment")),
        ({"label": "bad", "by": "reviewer"}, (422, "invalid", "by")),
        ({"label": ["bad"]}, (422, "invalid", "label")),
    ],
)
def test_what_is_wrong_is_told(server: Running, given: Any, expected: Any) -> None:
    assert told(say(server, ask(server), **given)) == expected


def test_labels_that_are_known_are_named(server: Running) -> None:
    error = say(server, ask(server), label="unheard").json()["error"]
    assert error["message"] == "'unheard' is no label of this model; it knows bad, fair, good"


@pytest.mark.parametrize("id", [new_id(1e9), "0" * 32, "f" * 32], ids=["long ago", "first", "last"])
def test_a_prediction_that_never_was_is_unknown_at_once(server: Running, id: str) -> None:
    reply = server.post("/v1/feedback", {"prediction_id": id, "label": "bad"})
    assert told(reply) == (404, "unknown_prediction", "prediction_id")


def test_a_prediction_that_another_worker_just_made_is_waited_for(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start()
    answer = ask(running)
    assert running.service.spool.flush(20)
    row = running.service.journal.find(answer["prediction_id"])
    assert row is not None
    find, asked = running.service.journal.find, []

    def late(id: str) -> Any:
        asked.append(id)
        return find(id) if len(asked) > 3 else None

    running.service.journal.find = late  # type: ignore[method-assign]
    assert say(running, answer, correct=True).status == 200
    assert len(asked) == 4


@pytest.mark.parametrize(
    "id", ["", "x", "'; DROP TABLE feedback; --", "0" * 33, "G" * 32, "０" * 32]
)
def test_an_id_is_an_id(server: Running, id: str) -> None:
    reply = server.post("/v1/feedback", {"prediction_id": id, "label": "bad"})
    assert told(reply) == (422, "invalid", "prediction_id")


def test_an_absent_journal_is_not_lied_about(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start()
    answer = ask(running)
    assert running.service.spool.flush(20)
    for file in tmp_path.glob("journal.sqlite*"):
        file.unlink()
    (tmp_path / "journal.sqlite").mkdir()
    began = time.monotonic()
    reply = say(running, answer, correct=True)
    assert told(reply) == (503, "journal", "")
    assert int(reply.headers["retry-after"]) >= 1
    assert ask(running)["prediction_id"]  # and answers go on
    assert time.monotonic() < began + 30


# ---- review ------------------------------------------------------------------------------------


def test_what_no_reviewer_has_judged_is_to_be_reviewed(start: Callable[..., Running]) -> None:
    running = start()
    answers = [ask(running, f"this was {word}") for word in ("great", "awful", "okay")]
    say(running, answers[0], label="bad", comment="no")
    say(running, answers[1], label="bad", reviewed=True)
    rows = running.get("/v1/review?order=newest").json()["rows"]
    assert [row["id"] for row in rows] == [answers[2]["prediction_id"], answers[0]["prediction_id"]]
    assert rows[0]["judgement"] is None
    assert rows[1]["judgement"]["label"] == "bad"
    assert set(rows[1]["judgement"]) == {"label", "comment", "at", "by"}
    assert "caller" not in rows[0]
    after = running.get(f"/v1/review?order=newest&after={rows[0]['id']}").json()["rows"]
    assert after == rows[1:]


@pytest.mark.parametrize("order", ["uncertain", "disagreeing", "drifted", "newest"])
def test_every_order_is_answered(start: Callable[..., Running], order: str) -> None:
    running = start()
    ask(running)
    assert running.service.spool.flush(20)
    assert len(running.get(f"/v1/review?order={order}&limit=5").json()["rows"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [("order=x", "order"), ("limit=0", "limit"), ("limit=201", "limit"), ("after=x", "after"),
     ("kept=x", "kept")],
)  # fmt: skip
def test_a_wrong_question_is_told(server: Running, query: str, field: str) -> None:
    assert told(server.get(f"/v1/review?{query}")) == (422, "invalid", field)


def test_a_kept_input_is_shown_and_runs_nothing(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start(keep_inputs=tmp_path / "inputs")
    ask(running, "<script>alert(1)</script>")
    assert running.service.spool.flush(20)
    [row] = running.get("/v1/review?kept=true").json()["rows"]
    reply = running.get(f"/v1/inputs/{row['inputs']['text']}")
    assert reply.body == b"<script>alert(1)</script>"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0" * 64, (404, "unknown_input", "sha256")), ("x", (422, "invalid", "sha256")),
     ("..%2f..%2fetc%2fpasswd", (404, "not_found", ""))],
)  # fmt: skip
def test_nothing_else_can_be_read(
    start: Callable[..., Running], tmp_path: Path, name: str, expected: Any
) -> None:
    running = start(keep_inputs=tmp_path / "inputs")
    assert told(running.get(f"/v1/inputs/{name}")) == expected


def test_without_kept_inputs_there_are_none(server: Running) -> None:
    assert told(server.get(f"/v1/inputs/{'0' * 64}")) == (404, "unknown_input", "")
