"""Old rows and corrections become one manifest in which all that there was can still be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tiny import LABELLED, NUMBERED

from moodal import bundle
from moodal.bundle import Info
from moodal.config import Columns, Run
from moodal.data import manifest
from moodal.errors import DataError
from moodal.monitor import lessons
from moodal.monitor.lessons import Feedback
from moodal.store.inputs import Inputs
from moodal.store.journal import Journal
from moodal.types import Modality, Record, Rejection
from tests.monitor.conftest import Asked

PNG = b"\x89PNG\r\n\x1a\n and so on"
HEADER = "id,text,image,label,lang,group\n"


def info(*modalities: Modality, task: str = LABELLED) -> Info:
    """Of a model that says bad or good, or a number."""
    labels = ("bad", "good") if task == LABELLED else ()
    kinds = dict.fromkeys(modalities, "tokens")
    return bundle.load(bundle.PACKAGED).model_copy(
        update={"task": task, "labels": labels, "kinds": kinds}
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old" / "pictures").mkdir(parents=True)
    (tmp_path / "old" / "pictures" / "cat.png").write_bytes(PNG + b"cat")
    file = tmp_path / "old" / "old.csv"
    file.write_text(
        HEADER
        + 'a,"a, ""day""\nand a night",pictures/cat.png,good,en,anna\n'
        + f",很好,{tmp_path}/old/pictures/cat.png,,,\n"
        + "c,,,bad,,\n"
        + "too,few\n",
        encoding="utf-8",
    )
    return file


@pytest.fixture
def feedback(book: Journal, inputs: Inputs, asked: Asked) -> Feedback:
    """One correction of a picture by a reviewer, one of a text by a user."""
    asked.judge(asked.answer(inputs.keep(Record("1", image=PNG + b"dog"))), "good")
    asked.judge(asked.answer(inputs.keep(Record("2", text="so so"))), "bad", by="user")
    return Feedback(book, inputs)


def gathered(file: Path, feedback: Feedback, out: Path, **to: Any) -> lessons.Lessons:
    given: dict[str, Any] = {"info": info("text", "image"), "run": Run(), **to}
    return lessons.gather(file, feedback, out=out, **given)


def records(done: lessons.Lessons, columns: Columns | None = None) -> list[Record]:
    found = list(manifest.read(done.file, columns or Columns()))
    return [record for record in found if isinstance(record, Record)]


def test_all_that_the_old_rows_held_is_in_the_new_manifest_and_media_are_found(
    old: Path, feedback: Feedback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = gathered(old.relative_to(tmp_path), feedback, Path("away/new.data"))
    assert (done.old, done.corrections, done.left_out.n) == (2, 1, 2)
    one, two, three = records(done)
    assert (one.id, one.text, one.target) == ("a", 'a, "day"\nand a night', "good")
    assert (one.lang, one.group) == ("en", "anna")
    assert (two.id, two.text, two.target) == ("2", "很好", None)
    for record, content in ((one, b"cat"), (two, b"cat"), (three, b"dog")):
        assert isinstance(record.image, Path)
        assert record.image.read_bytes() == PNG + content
    assert (three.target, three.modalities) == ("good", ("image",))
    assert [r.source for r in done.left_out.first] == ["old.csv row 3", "old.csv row 4"]
    assert "2 left out; the first: old.csv row 3" in done.sentence()
    json.dumps(done.to_dict())


def test_the_words_of_users_count_when_asked_for(
    old: Path, feedback: Feedback, tmp_path: Path
) -> None:
    all_of_it = Feedback(feedback.journal, feedback.inputs, reviewed=False)
    done = gathered(old, all_of_it, tmp_path / "new.data")
    assert [r.target for r in records(done)[2:]] == ["good", "bad"]


def test_bytes_features_and_probabilities_of_a_parquet_file_are_kept(
    feedback: Feedback, tmp_path: Path
) -> None:
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    wide = features.astype(np.float64).tolist()
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE rows (id VARCHAR, text FLOAT[][], image STRUCT(bytes BLOB, path VARCHAR), "
        "label VARCHAR, probabilities STRUCT(bad DOUBLE, good DOUBLE))"
    )
    cells = ["1", wide, {"bytes": PNG, "path": "lost.png"}, "bad", {"bad": 0.25, "good": 0.75}]
    connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", cells)
    connection.execute(f"COPY rows TO '{tmp_path}/old.parquet' (FORMAT parquet)")
    done = gathered(tmp_path / "old.parquet", feedback, tmp_path / "new.data")
    one, _ = records(done)
    np.testing.assert_array_equal(one.text, features)
    assert isinstance(one.image, Path)
    assert one.image.read_bytes() == PNG
    assert one.probabilities == {"bad": 0.25, "good": 0.75}


def test_columns_keep_the_names_of_the_old_file(feedback: Feedback, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("review,stars,who\nfine,good,\n", encoding="utf-8")
    columns = Columns(text="review", label="stars", group="who")
    run = Run(columns=columns, modalities=("text",))
    done = gathered(tmp_path / "old.csv", feedback, tmp_path / "new.data", run=run)
    one, two = records(done, columns)
    assert (one.text, one.target, two.target) == ("fine", "good", "good")


def test_a_correction_must_be_an_answer_that_the_model_can_give(
    old: Path, feedback: Feedback, inputs: Inputs, asked: Asked, tmp_path: Path
) -> None:
    asked.judge(asked.answer(inputs.keep(Record("3", text="hm"))), "purple")
    done = gathered(old, feedback, tmp_path / "new.data")
    assert done.corrections == 1
    assert "purple" in done.left_out.first[-1].reason
    with pytest.raises(DataError, match="no correction"):
        gathered(old, feedback, tmp_path / "other.data", info=info("text", task=NUMBERED))


def test_without_a_correction_or_a_row_of_each_modality_there_is_nothing_to_train(
    old: Path, feedback: Feedback, tmp_path: Path
) -> None:
    out, run = tmp_path / "new.data", Run(modalities=("text",))
    with pytest.raises(DataError, match=r"hold audio, which base reads.*modalities=\["):
        gathered(old, feedback, out, info=info("text", "image", "audio"))
    assert not (out / lessons.FILE).exists()
    assert gathered(old, feedback, out, info=info("text", "image", "audio"), run=run).old == 2
    (tmp_path / "none.csv").write_text(HEADER + "a,day,,good,,\n", encoding="utf-8")
    blind = Feedback(feedback.journal, None)
    with pytest.raises(DataError, match=r"no correction .*--inputs DIR"):
        gathered(tmp_path / "none.csv", blind, tmp_path / "other.data")


def test_rows_that_were_learned_from_are_known_again(
    old: Path, feedback: Feedback, tmp_path: Path
) -> None:
    model = tmp_path / "new"
    gathered(old, feedback, lessons.folder_of(model))
    known = lessons.known(model, Columns())
    assert len(known) == 3
    picture = tmp_path / "copy.png"
    picture.write_bytes(PNG + b"dog")
    cat = old.parent / "pictures" / "cat.png"
    asked: list[Record | Rejection] = [
        Record("1", image=picture),
        Record("2", image=PNG + b"dog"),
        Record("3", text=' a,  "day" and a night', image=cat),
        Record("4", text='a, "day" and a night'),
        Record("5", image=PNG + b"horse"),
        Record("6", image=tmp_path / "gone.png"),
        Rejection("7", "row 7", "", "no"),
    ]
    assert lessons.n_known(asked, known) == 3, "equal in every modality, wherever it lies"
    assert lessons.n_known(asked, lessons.known(tmp_path / "plain", Columns())) == 0
