"""What a stage is taught, and that every setting of the recipe is one that moodal knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from moodal import config
from moodal.data import manifest
from moodal.errors import DataError
from moodal.model.encoders import IMAGE, Spec
from moodal.types import Prediction, Record
from recipes.base import train
from recipes.base.sets import LABELS, SETS
from recipes.base.train import STAGES


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Manifests as `manifests` and `outliers` leave them, one row each."""
    said = {"text": "fine", "image": "", "audio": "", "label": "positive", "group": "a", "id": "1"}
    for stage in ("text", "image", "audio", "joint"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "train.jsonl").write_text(json.dumps(said) + "\n")
    strange = [
        {**said, "text": "", "label": "", "group": "outliers", m: f"{m} of no sense"}
        for m in ("text", "image", "audio")
    ]
    (tmp_path / "outliers").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in strange)
    (tmp_path / "outliers" / "train.jsonl").write_text(lines)
    (tmp_path / "summary.json").write_text("{}")
    return tmp_path


def test_a_stage_is_unsure_of_the_outliers_of_its_modalities(out: Path, tmp_path: Path) -> None:
    train.prepare(tmp_path / "no data: the manifests stand", out, [])
    for stage in (train.TEXT, train.IMAGE, train.AUDIO, train.JOINT):
        rows = list(manifest.read(out / stage.name / "shown.jsonl"))
        assert all(isinstance(row, Record) for row in rows)
        first, *rest = [row for row in rows if isinstance(row, Record)]
        assert first.probabilities is None
        assert [row.modalities for row in rest] == [(m,) for m in stage.modalities]
        for row in rest:
            assert row.target is None
            assert row.probabilities == dict.fromkeys(LABELS, 1.0)


def test_another_speaker_and_fold_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(train, "_find", lambda chosen, out: None)
    monkeypatch.setattr(train, "prepare", lambda *given: asked.append(given) or sys.exit())
    folds = ["--casia-speaker", "casia-liuchanhg", "--oasis-fold", "3"]
    monkeypatch.setattr(sys, "argv", ["train", "DATA", str(tmp_path), *folds])
    with pytest.raises(SystemExit):
        train.main()
    [(*_, dev)] = asked
    assert dev["casia"].words == "speaker casia-liuchanhg"
    assert dev["oasis"].words == "fold 3 of 5, by theme"


def test_the_manifests_are_written_by_that_division(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    for module, name in (
        (train.sets, "verify"),
        (train.outliers, "write"),
        (train.phrases, "write"),
    ):
        monkeypatch.setattr(module, name, lambda *a, **k: None)
    monkeypatch.setattr(train.manifests, "write", lambda *a, **k: told.update(k) or sys.exit())
    dev = train.manifests.held_out(oasis_fold=2)
    with pytest.raises(SystemExit):
        train.prepare(tmp_path, tmp_path, [], dev)
    assert told["dev"] is dev


def test_manifests_of_another_division_are_not_taken_for_this_one(out: Path) -> None:
    held = train.manifests.held_out()
    stands = {"held_out": {name: choice.words for name, choice in held.items()}}
    (out / "summary.json").write_text(json.dumps(stands))
    train.prepare(out, out, [], held)
    with pytest.raises(DataError, match=r"fold 0 of 5.*not.*fold 1 of 5.*another folder"):
        train.prepare(out, out, [], train.manifests.held_out(oasis_fold=1))


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_is_known_and_a_stage_starts_from_earlier_ones(name: str) -> None:
    run = config.load(settings=STAGES[name].settings)
    assert run.train.mixture is not None
    assert all(
        list(STAGES).index(parent) < list(STAGES).index(name) for parent in STAGES[name].start
    )


SAID = {"text": "fine", "image": "", "audio": "", "label": "positive", "group": "a", "lang": "en"}


def test_a_text_is_told_by_the_mean_of_its_teachers(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [
        {"id": "1", **SAID},
        {"id": "2", **SAID, "text": "mine"},
        {"id": "3", **SAID, "text": "很好", "lang": "zh"},
    ]
    told = {"probabilities": {"positive": 0.9, "negative": 0.1}}
    other = {"probabilities": {"positive": 0.5, "negative": 0.5}}
    new: list[Any] = [{"id": f"made/{name}", **SAID, **told} for name in ("en", "en/1", "zh")]
    write(out / "text" / "shown.jsonl", rows)
    write(out / "text" / "answered-en-0.jsonl", [rows[0] | told, new[0]])
    write(out / "text" / "answered-en-1.jsonl", [rows[0] | other, new[1]])
    write(out / "text" / "answered-zh-0.jsonl", [rows[2] | told, new[2]])
    write(out / "text" / "answered-zh-1.jsonl", [rows[2] | other])
    train._tell(out)
    first, *rest = read(out / train.TAUGHT.rows)
    mean = {"probabilities": pytest.approx({"positive": 0.7, "negative": 0.3})}
    assert first == rows[0] | mean
    assert rest == [rows[1], rows[2] | mean, new[2], *new[:2]]


def test_words_of_pairs_of_one_theme_are_in_one_fold(out: Path) -> None:
    pairs: list[Any] = [
        SAID | {"text": f"word {i}", "image": f"{name}.jpg"}
        for i, name in enumerate(("Dog_1", "Dog_2", *map(str, range(20))))
    ]
    others = [pairs[0] | {"audio": "a.wav"}, pairs[0] | {"lang": "zh", "text": "狗"}]
    write(out / "joint" / "train.jsonl", [SAID, *pairs, *others])
    folds = train._halves(out, "text", "en")
    assert list(folds) == list(range(train.FOLDS))
    words = {row["text"]: fold for fold, rows in folds.items() for row in rows}
    assert sum(map(len, folds.values())) == len(words) == len(pairs)
    assert words.keys() == {row["text"] for row in pairs}
    assert all(row["image"] == "" for rows in folds.values() for row in rows)
    assert words["word 0"] == words["word 1"], "both are of dogs"
    assert not train._halves(out, "text", "fr")
    pictures = [row for rows in train._halves(out, "image").values() for row in rows]
    assert {row["image"] for row in pictures} == {row["image"] for row in pairs}
    assert {row["text"] for row in pictures} == {""}


def test_what_stands_alone_teaches_the_joint_stage_what_taught_makes_of_it(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [
        SAID | {"group": "sst2"},
        SAID | {"group": "semeval2017"},
        SAID | {"group": "phrases"},
        SAID | {"group": "mvsa-single", "image": "a.jpg"},
        SAID | {"group": "ravdess", "text": "", "audio": "a.wav"},
    ]
    write(out / "joint" / "shown.jsonl", rows)
    shares = {"negative": 0.2, "neutral": 0.5, "positive": 0.3}
    known = SimpleNamespace(predict_many=lambda records: [prediction(shares) for _ in records])
    monkeypatch.setattr(train.moodal, "load", lambda _: known)
    train._answer_texts(out)
    first, second, *rest = read(out / train.JOINT.rows)
    assert first["probabilities"] == {"negative": 0.4, "positive": 0.6}
    assert second["probabilities"] == shares
    assert rest == rows[2:]


def test_a_picture_of_a_pair_also_stands_by_itself_in_the_joint_stage(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = SAID | {"id": "mvsa-single/1", "group": "mvsa-single", "image": "a.jpg"}
    for name in ("train", "shown"):
        write(out / "joint" / f"{name}.jsonl", [pair])
    monkeypatch.setattr(train.moodal, "load", lambda _: SimpleNamespace(predict_many=list))

    def told(given: dict[int, list[Any]], *_: object) -> list[Any]:
        return [row | {"id": "told", "group": "g"} for rows in given.values() for row in rows]

    monkeypatch.setattr(train.specialists, "told", told)
    train._answer_texts(out)
    first, *rest = read(out / train.JOINT.rows)
    assert first == pair
    assert len(rest) == len({row["id"] for row in rest}) == train.OFTEN
    assert all(row | {"id": ""} == pair | {"id": "", "group": "g", "text": ""} for row in rest)


def prediction(probabilities: dict[str, float]) -> Prediction:
    return Prediction("", "negative", None, probabilities, 0.5, (), {})


def write(file: Path, rows: list[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_joint_weights_name_the_sets_that_are_learned(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"sets": {"casia": {}, "sst2": {}}}))
    run = config.load(settings=[train._joint_weights(tmp_path)])
    assert run.train.class_weights == {"casia": 1.0}
    assert train.JOINT_WEIGHTS.keys() <= {given.name for given in SETS}


def test_a_stage_is_trained_when_what_it_starts_from_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    class Late:
        """Works only when its result is asked for: the laziest pool there can be."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> Late:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def submit(self, work: Callable[..., None], *given: object) -> SimpleNamespace:
            return SimpleNamespace(result=lambda: work(*given))

    monkeypatch.setattr(train, "ProcessPoolExecutor", Late)
    monkeypatch.setattr(train, "_find_teachers", lambda: None)
    monkeypatch.setattr(train, "_find_photographs", lambda _: None)
    monkeypatch.setattr(train, "_find_voices", lambda _: None)
    monkeypatch.setattr(train, "prepare", lambda *_: None)
    monkeypatch.setattr(train, "teach", lambda _, *which: done.append(which))
    monkeypatch.setattr(train, "train", lambda name, _: done.append(name))
    monkeypatch.setattr(train, "quantise", lambda *_: done.append("base"))
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path), str(tmp_path)])
    train.main()
    assert sorted(done, key=str) == sorted([*train.TEACHERS, *STAGES, "base"], key=str)
    for stage in STAGES.values():
        assert all(done.index(parent) < done.index(stage.name) for parent in stage.start)
    assert max(map(done.index, [*train.TEACHERS, "text"])) < done.index("taught")
    assert done.index("image") < done.index("faces") < done.index("joint")  # each of the one before
    assert done[-1] == "base"


def test_faces_are_learned_half_of_labels_and_half_of_what_was_made_of_them(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(image: Path) -> Prediction:
        sure = {"a.jpg": 0.8, "b.jpg": 0.2}[image.name]
        probabilities = {"negative": sure, "neutral": 0.0, "positive": 1 - sure}
        return prediction(probabilities)

    known = SimpleNamespace(predict_many=lambda rows: (told(row["image"]) for row in rows))
    monkeypatch.setattr(train.moodal, "load", lambda _: known)
    rows = [
        {"image": "a.jpg", "label": "negative"},
        {"image": "", "label": "", "probabilities": {"negative": 1, "positive": 1}},
        {"image": "b.jpg", "label": "neutral"},
    ]
    write(out / train.IMAGE.rows, rows)
    train._answer_faces(out)
    first, unsure, last = read(out / train.FACES.rows)
    assert first["probabilities"] == pytest.approx({"negative": 0.9, "neutral": 0, "positive": 0.1})
    assert unsure == rows[1]
    assert last["probabilities"] == pytest.approx(
        {"negative": 0.1, "neutral": 0.5, "positive": 0.4}
    )


def test_the_joint_stage_sees_faces_as_faces_did_and_photographs_as_given(tmp_path: Path) -> None:
    faces, photographs = (
        IMAGE[kind](Spec(width=train.WIDTH)).state_dict() for kind in ("cnn", "efficientnet")
    )
    (tmp_path / "models" / "faces").mkdir(parents=True)
    (tmp_path / "joint").mkdir()
    named = {f"encoders.image.{name}": values for name, values in faces.items()}
    save_file(named | {"bias": torch.zeros(3)}, tmp_path / "models/faces/weights.safetensors")
    given = {n: v for n, v in photographs.items() if n.startswith("1.")}
    save_file(given, tmp_path / train.PHOTOGRAPHS)
    run = config.load(settings=train.JOINT.settings)
    encoder = IMAGE[run.image_encoder.kind](Spec(width=run.image_encoder.width))
    told = encoder.load_state_dict(load_file(train._pictures(tmp_path)), strict=False)
    assert {n.rpartition(".")[0] for n in told.missing_keys if "whole" in n} == {
        "1.whole.1.near.1.norm",
        "1.whole.1.near.2.linear",
        "1.whole.1.far.2.norm",
        "1.whole.1.far.3.linear",
    }
    assert all(n.startswith(("0.", "1.whole.")) for n in told.missing_keys)
    own = encoder.state_dict()
    for here, there, theirs in (
        ("1.path.1.", "1.", faces),
        ("2.", "3.", faces),
        *((f"1.whole.0.{i}.", f"1.{i}.", photographs) for i in range(12)),
        *((f"1.whole.1.far.0.{i}.", f"1.{12 + i}.", photographs) for i in range(5)),
    ):
        assert any(f"image.{here}".startswith(frozen) for frozen in run.train.freeze)
        same = [n for n in own if n.startswith(here) and not n.endswith("num_batches_tracked")]
        assert same
        for name in same:
            assert torch.equal(own[name], theirs[there + name.removeprefix(here)]), name
