"""Answers that are texts, from manifest to bundle: learned, told, scored, stopped and resumed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from moodal import api, bundle
from moodal.data import manifest
from moodal.errors import ConfigError, DataError, RecordError
from moodal.runtime.predict import Model
from moodal.training import checkpoint, objectives
from moodal.types import Prediction

Rows = list[dict[str, str]]
CASES = [
    ("transcribe", tiny.speech, tiny.HEARING, tiny.hear_once),
    ("summarise", tiny.articles, tiny.WRITING, tiny.write_once),
]
TRAINED = pytest.mark.parametrize(("task", "make", "settings"), [c[:3] for c in CASES])
BOTH = pytest.mark.parametrize(("task", "once"), [(c[0], c[3]) for c in CASES])


class Stopped(Exception):  # noqa: N818
    """As a person's Ctrl-C."""


@pytest.fixture(scope="module")
def ears() -> Model:
    return api.load(tiny.hear_once())


@pytest.fixture(scope="module")
def writer() -> Model:
    return api.load(tiny.write_once())


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def dev(model: Model) -> Path:
    return model.folder.parent / "data" / "dev.csv"


def train(data: Path, out: Path, *settings: str, resume: bool = False) -> Model:
    given = (f"cache={out.parent / 'cache'}", *settings)
    return api.train(
        data / "train.csv", valid=data / "dev.csv", out=out, settings=given, resume=resume
    )


# Learned, saved, loaded, told, scored


@BOTH
def test_it_is_learned_saved_loaded_and_told(task: str, once: Callable[[], Path]) -> None:
    model = api.load(once())
    assert bundle.verify(model.folder).task == task
    assert (model.info.temperatures, model.info.threshold) == ({}, 0.0)
    rows = rows_of(dev(model))
    answers = list(model.predict_many(manifest.read(dev(model))))
    assert len(answers) == len(rows)
    right = 0
    for row, answer in zip(rows, answers, strict=True):
        assert isinstance(answer, Prediction)
        assert answer.text is not None
        right += answer.text == row["label"]
        assert [t.text for t in answer.tokens] == answer.text.split()
        mean = np.mean([t.confidence for t in answer.tokens])
        assert answer.confidence == pytest.approx(mean)
        assert (answer.label, answer.value, answer.probabilities) == (None, None, {})
        assert sum(answer.contributions.values()) == pytest.approx(answer.confidence)
        json.dumps(answer.to_dict())
    assert right >= 0.75 * len(rows)


def test_each_word_is_heard_where_it_was_said(ears: Model) -> None:
    words = ["ab", "bca", "c"]
    answer = ears.predict(audio=tiny.wav(tiny.spoken(" ".join(words), np.random.default_rng(0))))
    assert answer.text == "ab bca c"
    period, first = tiny.LETTER_SECONDS + tiny.GAP_SECONDS, tiny.GAP_SECONDS
    for token, word in zip(answer.tokens, words, strict=True):
        assert token.text == word
        last = first + len(word) * period
        assert token.start == pytest.approx(first, abs=0.2)
        assert token.end == pytest.approx(last, abs=0.2)
        first = last + period


def test_what_was_written_was_not_heard(writer: Model) -> None:
    answer = writer.predict(text="today , dora went out and bought fish there .")
    assert answer.text == "some fish"
    assert all((t.start, t.end) == (None, None) for t in answer.tokens)
    assert (
        writer.predict(text="today , dora went out and bought fish there .", explain=True) == answer
    )


@BOTH
def test_it_is_evaluated_with_the_scores_of_its_task(task: str, once: Callable[[], Path]) -> None:
    model = api.load(once())
    report = api.evaluate(dev(model), model=model).to_dict()
    goal = "wer" if task == "transcribe" else "rougeL"
    assert report["n"] == len(rows_of(dev(model)))
    assert report[goal] == pytest.approx(model.info.scores["all"][goal], abs=1e-6)
    low, high = report["intervals"][goal]
    assert low <= report[goal] <= high
    json.dumps(report)
    with pytest.raises(ConfigError, match="this model answers with a text, not a label"):
        api.evaluate(dev(model), model=model, among=["a", "b"])


# Stopped and resumed


@TRAINED
def test_a_stopped_run_resumed_ends_in_the_same_weights(
    task: str, make: Any, settings: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    data = make(tmp_path / "data", 16)
    short = (*settings, "train.epochs=2", "train.batch_size=4")
    often = (*short, "train.checkpoint_seconds=1e-9")
    whole = train(data, tmp_path / "whole", *often)
    plain, left = objectives.LOSSES[task]["auto"], [11]  # in the second of two epochs

    def build(cost: Any) -> Any:
        loss = plain(cost)

        def deadly(*given: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped
            return loss(*given)

        return deadly

    out = tmp_path / "model"
    with monkeypatch.context() as patched:
        patched.setitem(objectives.LOSSES[task], "auto", build)
        with pytest.raises(Stopped):
            train(data, out, *often)
    assert checkpoint.folder_of(out).exists()
    assert not out.exists()
    model = train(data, out, *often, resume=True)
    weights = [(folder / bundle.WEIGHTS).read_bytes() for folder in (out, tmp_path / "whole")]
    assert weights[0] == weights[1]
    assert model.info.scores == whole.info.scores


# Bad input


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return tiny.speech(tmp_path / "data", 8)


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    return tiny.articles(tmp_path / "data", 8)


QUICK_EARS = (*tiny.HEARING, "train.epochs=1")
QUICK_WRITER = (*tiny.WRITING, "train.epochs=1")


def changed(data: Path, name: str, change: Callable[[Rows], Rows]) -> Path:
    tiny.write(data / name, change(rows_of(data / name)))
    return data


def test_what_cannot_teach_is_counted_and_named(speech: Path, tmp_path: Path) -> None:
    long = tiny.spoken("ab " * 9, np.random.default_rng(0))
    (speech / "long.wav").write_bytes(tiny.wav(long))
    assert len(long) > 4 * 16_000
    bad = [
        {"id": "short", "audio": "train-0.wav", "label": "abc" * 40},
        {"id": "long", "audio": "long.wav", "label": "ab " * 9},
        {"id": "gone", "audio": "gone.wav", "label": "ab"},
        {"id": "none", "audio": "train-1.wav", "label": ""},
    ]
    changed(speech, "train.csv", lambda rows: rows + bad)
    changed(speech, "dev.csv", lambda rows: [*rows, bad[0]])
    model = train(speech, tmp_path / "model", *QUICK_EARS)
    counted = model.info.data["train"]
    assert (counted["rows"], counted["rejected"], counted["unlabelled"]) == (8, 3, 1)
    reasons = {r["id"]: r for r in counted["rejections"]}
    assert set(reasons) == {"short", "long", "gone"}
    assert "the text needs 120 frames" in reasons["short"]["reason"]
    assert "training reads 400 at most" in reasons["long"]["reason"]
    assert reasons["short"]["source"] == "train.csv row 9"
    assert model.info.data["valid"]["rejected"] == 1


def test_when_no_recording_fits_the_first_is_named(speech: Path, tmp_path: Path) -> None:
    changed(speech, "train.csv", lambda rows: [row | {"label": "abc" * 40} for row in rows])
    with pytest.raises(DataError, match=r"no row can be used.* the text needs 120 frames"):
        train(speech, tmp_path / "model", *QUICK_EARS)
    assert not (tmp_path / "model").exists()
    assert not checkpoint.folder_of(tmp_path / "model").exists()


@pytest.mark.parametrize("said", ["", "  "])
def test_a_recording_without_a_transcript_is_unlabelled(
    speech: Path, tmp_path: Path, said: str
) -> None:
    changed(speech, "train.csv", lambda rows: [rows[0] | {"label": said}, *rows[1:]])
    model = train(speech, tmp_path / "model", *QUICK_EARS)
    counted = model.info.data["train"]
    assert (counted["rows"], counted["unlabelled"], counted["rejected"]) == (7, 1, 0)


def test_a_character_that_only_validation_has_costs_an_error(speech: Path, tmp_path: Path) -> None:
    changed(speech, "dev.csv", lambda rows: [row | {"label": f"{row['label']}z"} for row in rows])
    model = train(speech, tmp_path / "model", *QUICK_EARS)
    assert "z" not in model.info.labels
    assert model.info.data["valid"]["rejected"] == 0
    assert model.info.scores["all"]["exact"] == 0


def test_silence_is_no_text_and_the_model_abstains(ears: Model) -> None:
    answer = ears.predict(audio=tiny.wav(np.zeros(100, np.float32)))
    assert (answer.text, answer.tokens, answer.confidence) == ("", (), 0.0)
    assert (answer.abstain, answer.reason) == (True, "empty")


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_article_is_no_text_and_the_model_abstains(writer: Model, text: str) -> None:
    answer = writer.predict(text=text)
    assert (answer.text, answer.tokens, answer.confidence) == ("", (), 0.0)
    assert (answer.abstain, answer.reason, answer.modalities) == (True, "empty", ())


def test_a_text_that_cannot_be_seen_is_refused(writer: Model) -> None:
    with pytest.raises(RecordError, match="the text is empty"):
        writer.predict(text="\u200b")


def test_speech_is_not_written_down_from_a_text(
    ears: Model, articles: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="has text; this model reads audio"):
        ears.predict(text="abc")
    with pytest.raises(DataError, match=r"train\.csv: no labelled row has audio.*task=transcribe"):
        train(articles, tmp_path / "model", *QUICK_EARS)
    with pytest.raises(ConfigError, match=r"task=transcribe a model reads audio alone, not text"):
        train(articles, tmp_path / "model", *QUICK_EARS, "modalities=[text]")


def test_a_target_column_that_is_not_there_is_named(articles: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'summary'; its columns are id, text"):
        train(articles, tmp_path / "model", *QUICK_WRITER, "columns.label=summary")


@pytest.mark.parametrize("setting", ["train.mixture=0.5", "train.class_weights=1"])
def test_what_weighs_labels_is_refused(articles: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"task=summarise the answer is a text; leave them out"):
        train(articles, tmp_path / "model", *QUICK_WRITER, setting)


def test_what_hides_texts_is_refused_where_none_is_answered(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.denoise=true: with task=transcribe"):
        train(speech, tmp_path / "model", *QUICK_EARS, "train.denoise=true")


# What else a text may be made of


def with_pictures(data: Path, *, lone: bool) -> Path:
    """A picture for each row; every fourth row, or each one, has no text."""
    rng = np.random.default_rng(0)
    for name in ("train.csv", "dev.csv"):
        rows = rows_of(data / name)
        for i, row in enumerate(rows):
            (data / f"{i}.png").write_bytes(tiny.png(tiny.picture("good", rng)))
            row |= {"image": f"{i}.png", "text": "" if lone or i % 4 == 0 else row["text"]}
        tiny.write(data / name, rows)
    return data


SIGHT = ("image.size=24", "image_encoder.width=8", "image_encoder.layers=1")


@pytest.mark.parametrize("lone", [False, True])
def test_a_picture_may_be_told_of_alone_or_beside_a_text(
    articles: Path, tmp_path: Path, lone: bool
) -> None:
    data = with_pictures(articles, lone=lone)
    model = train(data, tmp_path / "model", *QUICK_WRITER, *SIGHT)
    assert model.info.modalities == (("image",) if lone else ("text", "image"))
    picture = data / "1.png"
    alone = model.predict(image=picture)
    assert alone.text
    assert model.predict(image=picture, explain=True) == alone, "no region of it is weighed"
    if not lone:
        both = model.predict(image=picture, text="today , ben bought tea .")
        assert set(both.contributions) == {"text", "image"}
        assert sum(both.contributions.values()) == pytest.approx(both.confidence)


def test_a_text_may_be_given_as_features(articles: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("train", "dev"):
        rows = [
            {"id": row["id"], "text": rng.normal(0, 1e3, (3, 4)).tolist(), "label": row["label"]}
            for row in rows_of(articles / f"{name}.csv")
        ]
        lines = "\n".join(map(json.dumps, rows))
        (articles / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    model = api.train(
        articles / "train.jsonl",
        valid=articles / "dev.jsonl",
        out=tmp_path / "model",
        settings=(*QUICK_WRITER, "text_encoder.kind=auto", f"cache={tmp_path / 'cache'}"),
    )
    assert model.info.kinds == {"text": "vectors"}
    assert model.predict(text=rng.normal(0, 1e3, (5, 4)).astype(np.float32)).text


def test_hidden_parts_of_texts_are_learned_of_rows_that_have_a_text(
    articles: Path, tmp_path: Path
) -> None:
    data = with_pictures(articles, lone=False)
    changed(data, "train.csv", lambda rows: [row | {"label": ""} for row in rows])
    settings = (*QUICK_WRITER, *SIGHT, "train.denoise=true", "modalities=[text]")
    model = train(data, tmp_path / "model", *settings)
    assert model.info.data["train"]["rows"] == 6
    assert model.info.data["train"]["unlabelled"] == 2


def test_a_run_may_start_from_a_model_of_texts(
    writer: Model, articles: Path, tmp_path: Path
) -> None:
    model = api.train(
        articles / "train.csv",
        valid=articles / "dev.csv",
        out=tmp_path / "model",
        settings=("task=summarise", "train.epochs=1", "train.learning_rate=1e-6"),
        start=[writer.folder],
    )
    assert model.info.labels == writer.info.labels, "the parent's symbols are kept"
    text = "today , dora went out and bought fish there ."
    assert model.predict(text=text).text == writer.predict(text=text).text
