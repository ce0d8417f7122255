"""Students: narrower, of fewer modalities, of several teachers, and of rows without a label."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from moodal import api, bundle
from moodal.compress import distil, network
from moodal.compress.ground import stand
from moodal.compress.plan import Plan, settings_of
from moodal.errors import ConfigError, DataError
from moodal.runtime.predict import Model

QUICK = ("train.epochs=1", "train.threads=1")


def planned(folder: Path, out: Path, *given: str, **more: Any) -> Plan:
    """With the model's own rows; values of Plan over that."""
    data = folder.parent / "data"
    ways, settings = settings_of([*QUICK, f"cache={folder.parent / 'cache'}", *given])
    values = {"model": folder, "train": data / "train.csv", "valid": data / "dev.csv"} | more
    return Plan(**values, out=out, settings=settings, ways=ways)


def taught(folder: Path, out: Path, *given: str, **more: Any) -> tuple[Model, dict[str, Any]]:
    plan = planned(folder, out, *given, **more)
    facts = distil.step(plan, folder, plan.folder(1))
    bundle.verify(plan.folder(1))
    return Model(plan.folder(1)), facts


def widths(facts: dict[str, Any]) -> list[list[int]]:
    found = [pair for name, pair in facts["settings"].items() if name.endswith(".width")]
    assert found
    return found


@pytest.mark.parametrize("make", [tiny.train_once, tiny.hear_once, tiny.write_once])
def test_a_student_is_smaller_and_reads_as_its_teacher(make: Any, tmp_path: Path) -> None:
    folder = make()
    student, facts = taught(folder, tmp_path / "out")
    teacher = bundle.load(folder)
    assert student.info.parameters < 0.65 * teacher.parameters
    assert facts["parameters"] == [teacher.parameters, student.info.parameters]
    for same in ("task", "labels", "kinds", "text", "image", "audio"):
        assert getattr(student.info, same) == getattr(teacher, same)
    assert student.info.parents == (f"{teacher.name} {teacher.seal[:12]}",)
    assert all(new < old for old, new in widths(facts))


def test_a_student_of_words_alone_learns_from_a_teacher_of_three_modalities(
    tmp_path: Path,
) -> None:
    folder = tiny.train_once()
    student, facts = taught(folder, tmp_path / "out", "modalities=[text]", "train.epochs=2")
    assert student.info.modalities == ("text",)
    assert facts["modalities"] == ["text"]
    assert not (tmp_path / "out" / "steps" / "1-distil" / "image.onnx").exists()
    assert student.predict(text="it was great").modalities == ("text",)
    with (folder.parent / "data" / "train.csv").open(encoding="utf-8") as file:
        n = sum(bool(row["text"]) for row in csv.DictReader(file))
    assert student.info.data["train"]["rows"] == n


def test_rows_without_a_label_teach(tmp_path: Path) -> None:
    """All that the student knows of one label it has from its teacher."""
    folder = tiny.train_once()
    data = folder.parent / "data"
    with (data / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {m: str(data / row[m]) if row[m] else "" for m in ("image", "audio")}
        row["label"] = "" if row["label"] == "good" else row["label"]
    some = tiny.write(tmp_path / "some.csv", rows)
    how = ("train.epochs=12", "train.learning_rate=0.05", "distil.width=1", "distil.soft=1")
    student, facts = taught(folder, tmp_path / "out", *how, train=some)
    n_good = sum(not row["label"] for row in rows)
    assert (facts["labelled"], facts["unlabelled"]) == (len(rows) - n_good, n_good)
    assert student.predict(text="it was superb and lovely").label == "good"


def test_what_words_mean_is_known_from_the_start(tmp_path: Path) -> None:
    """The student's vectors are the teacher's, turned: their likeness is what is left of them."""
    folder = tiny.train_once()
    plan = planned(folder, tmp_path / "out", "text_encoder.width=12", "fusion.width=8")
    found = stand(plan, folder)
    run = distil.student_run(plan, found.start)
    student = distil.network_of(found, run, ("text",))
    vectors = [
        n.encoders["text"][0].embedding.weight.detach() for n in (student, found.start.network)
    ]
    torch.testing.assert_close(*(v @ v.T for v in vectors), atol=1e-4, rtol=1e-3)


def test_several_teachers_teach_together(tmp_path: Path) -> None:
    folder = tiny.train_once()
    data, out = folder.parent / "data", tmp_path / "second"
    settings = (*tiny.SETTINGS, "train.seed=5", "train.epochs=1", f"cache={tmp_path / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=out, settings=settings)
    _, facts = taught(folder, tmp_path / "out", teachers=(folder, out))
    assert facts["teachers"] == ["model", "second"]


def test_the_same_plan_is_the_same_student(tmp_path: Path) -> None:
    folder = tiny.train_once()
    for name in ("one", "other"):
        taught(folder, tmp_path / name, "modalities=[text]", "train.epochs=2")
    one, other = (
        network.load(tmp_path / name / "steps" / "1-distil").network.state_dict()
        for name in ("one", "other")
    )
    for key, values in one.items():
        torch.testing.assert_close(values, other[key], atol=0, rtol=0)


def other_labels(tmp_path: Path) -> Path:
    data = tiny.rows(tmp_path / "data")
    for name in ("train.csv", "dev.csv"):
        text = (data / name).read_text("utf-8")
        (data / name).write_text(text.replace(",fair,", ",so-so,"), "utf-8")
    return trained(data, tmp_path / "so-so")


def numbers(tmp_path: Path) -> Path:
    return trained(tiny.rows(tmp_path / "data", numeric=True), tmp_path / "numbers",
                   "task=regress")  # fmt: skip


def other_pictures(tmp_path: Path) -> Path:
    return trained(tiny.rows(tmp_path / "data"), tmp_path / "large", "image.size=32")


def other_words(tmp_path: Path) -> Path:
    return trained(tiny.rows(tmp_path / "data", 60, seed=3), tmp_path / "words")


def trained(data: Path, out: Path, *given: str) -> Path:
    settings = (*tiny.SETTINGS, "train.epochs=1", f"cache={out.parent / 'cache'}", *given)
    api.train(data / "train.csv", valid=data / "dev.csv", out=out, settings=settings)
    return out


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (other_labels, "has the labels bad, fair, good, .*so-so bad, good, so-so;.*--teacher"),
        (numbers, "answers task=classify, .*numbers task=regress"),
        (other_pictures, r"has image.size=24, .*large 32"),
        (other_words, "knows other words"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(make: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        taught(tiny.train_once(), tmp_path / "out", teachers=(make(tmp_path),))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("text.max_tokens=9", "--set text...: a student reads and answers as its teacher does"),
        ("task=regress", "--set task...: a student"),
        ("text_encoder.colour=9", "text_encoder.colour: there is no such setting"),
        ("text_encoder.kind=gnu", "text_encoder.kind='gnu': for tokens use auto or one of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        taught(tiny.train_once(), tmp_path / "out", given)


def test_a_student_reads_no_more_than_its_teacher(tmp_path: Path) -> None:
    folder = tiny.write_once()
    with pytest.raises(ConfigError, match=r"\['image'\]: .* does not read image"):
        taught(folder, tmp_path / "out", "modalities=[image]")


def test_rows_that_hold_nothing_the_student_reads_are_an_error(tmp_path: Path) -> None:
    folder = tiny.train_once()
    data = folder.parent / "data"
    with (data / "train.csv").open(encoding="utf-8") as file:
        rows = [row | {"audio": ""} for row in csv.DictReader(file)]
    shutil.copytree(data, tmp_path / "data")
    mute = tiny.write(tmp_path / "data" / "mute.csv", [r for r in rows if r["text"] or r["image"]])
    with pytest.raises(DataError, match="no training row has audio, which the student reads"):
        taught(folder, tmp_path / "out", "modalities=[audio]", train=mute)


def test_narrower_is_a_multiple_of_the_heads_and_never_too_narrow() -> None:
    assert distil.narrower(96, 0.5, 4) == 48
    assert distil.narrower(96, 0.3, 4) == 28
    assert distil.narrower(96, 0.01, 4) == 8
    assert distil.narrower(96, 0.01, 3) == 9
    assert distil.narrower(6, 0.5, 2) == 6
