"""From two manifests to a bundle: the same seed the same weights, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from tiny import LABELLED, NUMBERED, SETTINGS

from moodal import api, bundle, config
from moodal.compress import network
from moodal.errors import CapacityError, ConfigError, DataError
from moodal.runtime.predict import Model
from moodal.training import checkpoint, read
from moodal.training import run as run_module

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.rows(tmp_path_factory.mktemp("tiny") / "data", 24)


def train(data: Path, out: Path, *settings: str, resume: bool = False) -> Model:
    return api.train(
        data / "train.csv",
        valid=data / "dev.csv",
        out=out,
        settings=(*SETTINGS, f"cache={data.parent / 'cache'}", *settings),
        resume=resume,
    )


def weights(out: Path) -> bytes:
    return (out / bundle.WEIGHTS).read_bytes()


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The same numbers


CHILD = """
import json, os, signal, sys
from pathlib import Path
from moodal import api
from moodal.training import objectives

task, calls, given = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
plain = objectives.LOSSES[task]["auto"]

def build(cost):
    loss = plain(cost)
    def deadly(*given):
        global calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(*given)
    return deadly

objectives.LOSSES[task]["auto"] = build
api.train(**given)
"""


def killed(data: Path, out: Path, *settings: str, calls: int, resume: bool = False) -> None:
    """Train in a process that is killed at the given call of the loss: four to a batch in training
    (the answer and three modalities alone, where all are there), one in validation."""
    given = {
        "file": str(data / "train.csv"),
        "valid": str(data / "dev.csv"),
        "out": str(out),
        "settings": [*SETTINGS, f"cache={data.parent / 'cache'}", *settings],
        "resume": resume,
    }
    command = [sys.executable, "-c", CHILD, LABELLED, str(calls), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    out = tmp_path_factory.mktemp("whole") / "model"
    train(data, out, "train.checkpoint_seconds=1000")
    return out


def test_trying_settings_out_scores_as_training_does_and_leaves_nothing(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    model = Model(whole)
    run = config.load(whole / bundle.CONFIG)
    run = run.model_copy(update={"cache": tmp_path / "cache"})
    parts = read.read(read.parts_of(data / "train.csv", data / "dev.csv"), run, None)
    history = run_module.try_out(parts, run)
    assert [r["score"] for r in history] == [r["score"] for r in model.info.history]
    assert [r["valid_loss"] for r in history] == [r["valid_loss"] for r in model.info.history]
    assert beside(tmp_path) == ["cache"]


def test_a_model_may_be_judged_by_some_rows_of_another_file(data: Path, tmp_path: Path) -> None:
    rows = np.arange(tiny.N_DEV) % 2 == 0
    part = read.Part(data / "dev.csv", rows)
    run = config.load(None, (*SETTINGS, "train.epochs=1", f"cache={tmp_path / 'cache'}"))
    model = run_module.train(data / "train.csv", valid=part, out=tmp_path / "model", run=run)
    assert model.info.data["valid"]["rows"] == tiny.N_DEV // 2
    assert model.info.data["valid"]["sha256"] == part.fingerprint()
    assert model.info.data["train"]["rows"] == 24


def test_a_run_killed_twice_and_resumed_gives_the_same_weights_bit_for_bit(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    out, often = tmp_path / "model", "train.checkpoint_seconds=1e-9"
    killed(data, out, often, calls=6)  # in the second batch of three
    state = json.loads((checkpoint.folder_of(out) / checkpoint.STATE).read_bytes())
    assert (state["epoch"], state["step"]) == (0, 1)
    killed(data, out, often, calls=16, resume=True)  # in the next epoch
    state = json.loads((checkpoint.folder_of(out) / checkpoint.STATE).read_bytes())
    assert state["epoch"] == 1
    assert state["step"] > 0
    assert not out.exists()
    model = train(data, out, often, resume=True)
    assert weights(out) == weights(whole)
    assert beside(tmp_path) == ["model"]
    for mine, its in zip(model.info.history, bundle.load(whole).history, strict=True):
        assert (mine["train_loss"], mine["score"]) == (its["train_loss"], its["score"])


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    """Real processes: each has its share of the batches, and one of them writes the bundle."""
    out = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    given = [str(data / "train.csv"), "--valid", str(data / "dev.csv"), "--out", str(out)]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    run = subprocess.run(
        [*command, "-m", "moodal.cli", "train", *given, *settings],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        check=False,
        text=True,
        timeout=180,
    )
    assert run.returncode == 0, run.stderr
    assert bundle.verify(out).modalities == ("text", "image", "audio")
    assert not checkpoint.folder_of(out).exists()


def test_a_run_killed_before_its_first_state_cannot_be_resumed_and_says_so(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    killed(data, out, "train.checkpoint_seconds=1000", calls=6)
    assert not out.exists()
    with pytest.raises(ConfigError, match="holds no run to go on with; leave out --resume"):
        train(data, out, "train.checkpoint_seconds=1000", resume=True)
    train(data, out, "train.checkpoint_seconds=1000")
    assert weights(out) == weights(whole)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "again", "cache=null", "train.checkpoint_seconds=1000")
    assert weights(tmp_path / "again") == weights(whole)
    train(data, tmp_path / "other", "train.seed=1", "train.epochs=1")
    train(data, tmp_path / "first", "train.seed=0", "train.epochs=1")
    assert weights(tmp_path / "other") != weights(tmp_path / "first")


def test_weights_from_elsewhere_are_not_asked_for_again(data: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "elsewhere.safetensors", tmp_path / "model"
    save_file({"3.linear.bias": torch.ones(8)}, file)
    train(data, out, f"image_encoder.weights={file}", "train.epochs=1")
    file.unlink()
    assert network.load(out).run.image_encoder.weights is None, "it is built again to be compressed"
    api.train(
        data / "train.csv",
        valid=data / "dev.csv",
        out=tmp_path / "further",
        settings=["train.epochs=1"],
        start=[out],
    )


# Both tasks


def test_numbers_are_learned_far_better_than_their_spread(tmp_path: Path) -> None:
    data = tiny.rows(tmp_path / "data", 60, numeric=True)
    model = train(data, tmp_path / "model", f"task={NUMBERED}", "train.epochs=8")
    spread = float(np.std([float(row["label"]) for row in rows_of(data / "dev.csv")]))
    assert spread > 5
    assert model.info.scores["all"]["mae"] < 0.5 * spread
    assert model.info.labels == ()
    answer = model.predict(text="the room was superb on day 3")
    assert answer.value is not None
    assert (answer.label, answer.probabilities, answer.abstain) == (None, {}, False)


def test_numbers_far_from_zero_survive_the_export(tmp_path: Path) -> None:
    # Raw answers of a million differ by more than a thousandth in float32.
    data = tiny.rows(tmp_path / "data", 12, numeric=True)
    for part in ("train.csv", "dev.csv"):
        rows = [
            r
            | {
                "label": str(1e5 * float(r["label"])),
                "image": "",
                "audio": "",
                "text": r["text"] or "x",
            }
            for r in rows_of(data / part)
        ]
        tiny.write(data / part, rows)
    model = train(data, tmp_path / "model", f"task={NUMBERED}", "train.epochs=1")
    assert 1e4 < model.info.scores["all"]["mae"] < 1e7


# Bad input


def changed(data: Path, folder: Path, rows: Rows, *, dev: Rows | None = None) -> Path:
    """Another manifest over the same media."""
    folder.mkdir()
    for name, part in (("train.csv", rows), ("dev.csv", dev or rows_of(data / "dev.csv"))):
        absolute = [
            row | {m: str(data / row[m]) for m in ("image", "audio") if row[m]} for row in part
        ]
        tiny.write(folder / name, absolute)
    return folder


def test_bad_rows_are_counted_and_the_rest_is_trained_on(data: Path, tmp_path: Path) -> None:
    rows = rows_of(data / "train.csv")
    (data / "torn.png").write_bytes((data / "train-0.png").read_bytes()[:60])
    bad = [
        rows[0] | {"id": "gone", "image": "gone.png"},
        rows[1] | {"id": "torn", "image": "torn.png"},
        rows[2] | {"id": "text", "audio": "train.csv"},
        rows[3] | {"id": "lone", "label": "zzz", "image": "gone.png"},  # a label without a row
        rows[4] | {"id": "none", "label": ""},
    ]
    dev = [*rows_of(data / "dev.csv"), rows[5] | {"id": "new", "label": "unheard"}]
    there = changed(data, tmp_path / "bad", [*rows, *bad], dev=dev)
    # Text and cache are those of `data`; with class weights the label without a row has a weight.
    model = train(there, tmp_path / "model", "train.class_weights=1", "train.epochs=1")
    counted = model.info.data["train"]
    assert (counted["rows"], counted["rejected"], counted["unlabelled"]) == (len(rows), 4, 1)
    assert model.info.data["valid"]["rejected"] == 1
    assert model.info.labels == (*tiny.LABELS, "zzz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": ""}, r"label: a model needs at least two.* none;.*--label"),
        ({"label": "good"}, r"label: a model needs at least two .*only 'good'"),
        ({"image": "gone.png"}, r"train\.csv: no row can be used \(24 rejected.*gone\.png"),
    ],
)
def test_a_training_file_that_teaches_nothing_is_refused(
    data: Path, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    there = changed(data, tmp_path / "bad", [r | change for r in rows_of(data / "train.csv")])
    with pytest.raises(DataError, match=said):
        train(there, tmp_path / "model")
    assert not checkpoint.folder_of(tmp_path / "model").exists()
    assert not (tmp_path / "model").exists()


def test_one_label_left_after_rejection_is_refused(data: Path, tmp_path: Path) -> None:
    rows = [
        row | ({} if row["label"] == "good" else {"image": "gone.png"})
        for row in rows_of(data / "train.csv")
    ]
    with pytest.raises(DataError, match=r"all 8 readable rows have the same label \(16 rows"):
        train(changed(data, tmp_path / "bad", rows), tmp_path / "model")


def test_a_modality_of_which_no_row_can_be_read_is_named(data: Path, tmp_path: Path) -> None:
    rows = rows_of(data / "train.csv")
    rows = [r | {"image": "gone.png" if i % 2 else ""} for i, r in enumerate(rows)]
    with pytest.raises(DataError, match=r"no readable row has image \(12 rows .*gone\.png"):
        train(changed(data, tmp_path / "bad", rows), tmp_path / "model")


def test_labels_seen_in_validation_alone_are_refused_when_nothing_is_left(
    data: Path, tmp_path: Path
) -> None:
    dev = [row | {"label": "unheard"} for row in rows_of(data / "dev.csv")]
    there = changed(data, tmp_path / "bad", rows_of(data / "train.csv"), dev=dev)
    with pytest.raises(DataError, match=r"dev\.csv: no row can be used .*'unheard'"):
        train(there, tmp_path / "model")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.loss=mse", "use one of auto, cross_entropy"),
        ("text_encoder.kind=gpt", "text_encoder.kind='gpt': for tokens use auto or one of bag"),
        ("modalities=[image, audio, text]", None),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_before_training(
    data: Path, tmp_path: Path, setting: str, said: str | None
) -> None:
    if said is None:
        model = train(data, tmp_path / "model", setting, "train.epochs=1")
        assert model.info.modalities == ("text", "image", "audio")
        return
    with pytest.raises(ConfigError, match=said):
        train(data, tmp_path / "model", setting)
    assert not checkpoint.folder_of(tmp_path / "model").exists()


def test_standard_input_cannot_be_read_twice(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a file, not '-'"):
        api.train("-", valid=data / "dev.csv", out=tmp_path / "model")


def test_what_is_no_model_is_not_written_over(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a model"):
        train(data, tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


# A full disk


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what is written past it fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SMALL = (
    *("modalities=[text]", "fusion.kind=attention", "train.epochs=1"),
    *("train.optimiser=sgd", "train.momentum=0"),
)
"""A state of weights alone, which is smaller than the graph of the head."""


def test_no_room_for_a_state_is_said_and_nothing_is_left(data: Path, tmp_path: Path) -> None:
    with room_for(2_000), pytest.raises(CapacityError, match=r"model\.training: cannot be written"):
        train(data, tmp_path / "model", *SMALL)
    assert beside(tmp_path) == []


def test_no_room_for_the_model_leaves_a_run_to_resume_once_there_is(
    data: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "whole", *SMALL)
    largest = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    out = tmp_path / "model"
    with room_for(largest - 1), pytest.raises(CapacityError, match="cannot be written"):
        train(data, out, *SMALL)
    assert not out.exists()
    assert beside(checkpoint.folder_of(out)) == ["state-1-0.safetensors", "state.json"]
    train(data, out, *SMALL, resume=True)
    bundle.verify(out)
    assert weights(out) == weights(tmp_path / "whole")
    assert beside(tmp_path) == ["model", "whole"]
