"""A run that starts from trained models: what is taken over, what is not, and how it learns on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file
from tiny import tiny_model  # noqa: F401
from torch import Tensor

from moodal import api, bundle
from moodal.data.manifest import fingerprint
from moodal.errors import ConfigError, ModelError
from moodal.preprocess import vocabulary
from moodal.training import run

STILL = ("train.epochs=1", "train.learning_rate=1e-12", "train.l2=0", "train.batch_size=8")
"""An epoch that changes no weight to speak of: what is found after it was there before."""


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / bundle.WEIGHTS)


def pieces_of(folder: Path) -> tuple[str, ...]:
    info = bundle.load(folder)
    return vocabulary.load(folder / bundle.VOCABULARY, info.text).pieces


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def texts(folder: Path, labels: tuple[str, ...], *, extra: str = "") -> Path:
    """24 rows of text alone, `extra` in each."""
    rng = torch.Generator().manual_seed(1)
    rows = []
    for i in range(24):
        label = labels[i % len(labels)]
        words = tiny.WORDS.get(label, (label,))
        word = words[int(torch.randint(len(words), (1,), generator=rng))]
        rows.append({"text": f"{extra} it was {word} {i}", "label": label})
    return write(folder / f"{'-'.join(labels)}.csv", rows)


def train(data: Path, out: Path, *starts: Path, settings: tuple[str, ...] = STILL) -> Path:
    api.train(data, valid=data, out=out, start=starts, settings=settings)
    return out


def test_the_same_data_begins_with_the_answers_of_the_parent(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = tiny_model.parent / "data"
    child = train(data / "train.csv", tmp_path / "child", tiny_model)
    ours, theirs = weights_of(child), weights_of(tiny_model)
    assert ours.keys() == theirs.keys()
    learned = [n for n in ours if "running" not in n and "batches" not in n]
    for name in learned:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0, msg=name)
    info = bundle.load(child)
    parent = bundle.load(tiny_model)
    assert info.parents == (f"{parent.name} {parent.seal[:12]}",)
    assert f"It started from {info.parents[0]}" in (child / bundle.CARD).read_text()
    assert "started from" not in (tiny_model / bundle.CARD).read_text()
    assert info.text == parent.text
    assert info.audio == parent.audio


def test_no_epoch_leaves_every_weight_and_calibrates_anew(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """On other rows, of which half are told wrong: it is right less often, and abstains earlier."""
    data = tiny_model.parent / "data"
    with (data / "dev.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, other in zip(rows[::2], rows[1::2], strict=True):
        row["label"] = other["label"]
    wrong = write(data / "wrong.csv", rows)
    out = tmp_path / "again"
    api.train(data / "train.csv", valid=wrong, out=out, start=[tiny_model],
              settings=("train.epochs=0",))  # fmt: skip
    ours, theirs = weights_of(out), weights_of(tiny_model)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert (out / bundle.CONFIG).read_text() == (tiny_model / bundle.CONFIG).read_text()
    info, before = bundle.load(out), bundle.load(tiny_model)
    assert info.history == before.history
    assert info.scores["all"]["accuracy"] < before.scores["all"]["accuracy"]
    assert info.threshold > before.threshold


def test_nothing_learned_is_a_model_only_where_there_was_one(tmp_path: Path) -> None:
    data = texts(tmp_path, tiny.LABELS)
    with pytest.raises(ConfigError, match=r"train\.epochs=0: nothing would be learned.*--from"):
        train(data, tmp_path / "out", settings=("train.epochs=0",))
    assert not (tmp_path / "out").exists()


def test_labels_are_matched_by_name_and_a_new_one_begins_without_opinion(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    child = train(texts(tmp_path, ("good", "bad", "odd")), tmp_path / "child", tiny_model)
    ours, theirs = weights_of(child), weights_of(tiny_model)
    alone = "answer.alone.text.weight"
    assert bundle.load(child).labels == ("bad", "good", "odd")
    torch.testing.assert_close(ours[alone][0], theirs[alone][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(ours[alone][1], theirs[alone][2], atol=1e-6, rtol=0)
    assert ours[alone][2].abs().max() < 1e-6
    # Another set of modalities: the fusion is about these together, so it is new.
    assert ours["answer.fusion.summary.mix.weight"].shape[0] == 8
    assert not any(name.startswith("encoders.image") for name in ours)


def test_pieces_are_matched_by_name_and_new_ones_follow_while_there_is_room(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = texts(tmp_path, ("good", "bad"), extra="quixotic")
    known = pieces_of(tiny_model)
    full = train(data, tmp_path / "full", tiny_model, settings=(*STILL, "text.vocabulary=1"))
    assert pieces_of(full) == known
    wide = train(data, tmp_path / "wide", tiny_model, settings=(*STILL, "text.vocabulary=9000"))
    assert pieces_of(wide)[: len(known)] == known
    assert "quixotic" in pieces_of(wide)[len(known) :]
    name, n_rows = "encoders.text.0.embedding.weight", len(known) + vocabulary.FIRST
    ours, theirs = weights_of(wide)[name], weights_of(tiny_model)[name]
    torch.testing.assert_close(ours[:n_rows], theirs, atol=1e-6, rtol=0)


def test_encoders_of_several_parents_meet_in_one_model(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = tiny_model.parent / "data"
    for modality in ("text", "image"):
        settings = (*tiny.SETTINGS, "train.epochs=1", f"modalities=[{modality}]")
        train(data / "train.csv", tmp_path / modality, settings=settings)
    both = tmp_path / "both"
    settings = (*STILL, "modalities=[text,image]")
    train(data / "train.csv", both, tmp_path / "text", tmp_path / "image", settings=settings)
    ours = weights_of(both)
    for modality in ("text", "image"):
        theirs = weights_of(tmp_path / modality)
        for name in (f"answer.alone.{modality}.weight", f"encoders.{modality}.0.mean"):
            if name in theirs:
                torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)
    assert len(bundle.load(both).parents) == 2
    assert bundle.load(both).encoding_width == 8
    with pytest.raises(ConfigError, match="two of the models to start from read text"):
        train(data / "train.csv", tmp_path / "no", tiny_model, tmp_path / "text")


def test_a_frozen_encoder_stays_and_the_rest_learns(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = tiny_model.parent / "data" / "train.csv"
    settings = ("train.epochs=1", "train.freeze=[image]")
    ours = weights_of(train(data, tmp_path / "child", tiny_model, settings=settings))
    theirs = weights_of(tiny_model)
    for name in ours:
        same = torch.equal(ours[name], theirs[name])
        if name.startswith("encoders.image."):
            assert same, name
    assert not torch.equal(ours["answer.head.last.weight"], theirs["answer.head.last.weight"])
    assert not torch.equal(
        ours[f"encoders.text.{last(ours)}"], theirs[f"encoders.text.{last(ours)}"]
    )
    part = train(
        data, tmp_path / "part", tiny_model, settings=("train.epochs=1", "train.freeze=[image.1]")
    )
    for name, value in weights_of(part).items():
        if name.startswith("encoders.image.1."):
            assert torch.equal(value, theirs[name]), name
        elif name.startswith("encoders.image.3."):
            assert not torch.equal(value, theirs[name]), name
    with pytest.raises(
        ConfigError, match=r"train\.freeze=\['image'\]: the model has no image; name text"
    ):
        train(texts(tmp_path, ("good", "bad")), tmp_path / "no", tiny_model, settings=settings)


def last(weights: dict[str, Tensor]) -> str:
    """The last layer of the text encoder."""
    names = [n.removeprefix("encoders.text.") for n in weights if n.startswith("encoders.text.")]
    return max(name for name in names if name.endswith("linear.weight"))


def test_lower_layers_join_in_later(tiny_model: Path, tmp_path: Path) -> None:  # noqa: F811
    data = tiny_model.parent / "data" / "train.csv"
    settings = ("train.epochs=1", "train.unfreeze_epochs=1")
    ours = weights_of(train(data, tmp_path / "child", tiny_model, settings=settings))
    theirs = weights_of(tiny_model)
    moved = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert "answer.head.last.weight" in moved
    assert not any(n.startswith(("answer.fusion", "encoders.text")) for n in moved)


def test_other_settings_than_the_parents_are_refused_by_name(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = tiny_model.parent / "data" / "train.csv"
    settings = (*STILL, "image_encoder.width=16")
    with pytest.raises(
        ConfigError, match=r"image_encoder or fusion\.width differs from what model"
    ):
        train(data, tmp_path / "no", tiny_model, settings=settings)
    assert not (tmp_path / "no").exists()


def test_what_is_no_model_cannot_be_started_from(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model"):
        train(texts(tmp_path, ("good", "bad")), tmp_path / "no", tmp_path / "nothing")


def test_a_model_does_not_say_where_the_cache_of_its_machine_stood(
    tiny_model: Path,  # noqa: F811
) -> None:
    assert yaml.safe_load((tiny_model / bundle.CONFIG).read_text())["cache"] is None


def test_a_parent_of_any_name_leaves_the_hashes_of_the_data_alone(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    data = texts(tmp_path, ("good", "bad"))
    parent = train(data, tmp_path / "train", tiny_model)
    info = bundle.load(train(data, tmp_path / "child", parent))
    assert info.data["train"]["sha256"] == info.data["valid"]["sha256"] == fingerprint(data)
    assert info.parents[0].startswith("train ")


def test_a_run_is_not_resumed_from_other_parents(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = texts(tmp_path, ("good", "bad"))
    parent = train(data, tmp_path / "parent", tiny_model)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "child", tiny_model)
    monkeypatch.undo()
    given = {"valid": data, "out": tmp_path / "child", "settings": STILL, "resume": True}
    with pytest.raises(ConfigError, match=r"was made with other .*parents"):
        api.train(data, start=[parent], **given)
    assert api.train(data, start=[tiny_model], **given).info.parents
