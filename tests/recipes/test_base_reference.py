"""The packaged model's reference is what training would have written of the same rows."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from pathlib import Path

import pytest
import tiny
from tiny import NUMBERED, SETTINGS, hear_once, train_once, write_once

from moodal import api, bundle
from moodal.errors import DataError
from moodal.runtime import reference
from moodal.runtime.predict import Model
from recipes.base.reference import of, renew


def numbers(folder: Path) -> Path:
    """A trained model of a numeric target; its rows stand in `data` beside it."""
    data = tiny.rows(folder / "data", 24, numeric=True)
    settings = (*SETTINGS, f"task={NUMBERED}", "train.epochs=1", f"cache={folder / 'cache'}")
    parts = {"valid": data / "dev.csv", "out": folder / "model", "settings": settings}
    api.train(data / "train.csv", **parts)
    return folder / "model"


def quartiles(spread: reference.Spread) -> list[float]:
    places = (bisect_left(spread.shares, share) for share in (0, 0.25, 0.5, 0.75, 1))
    return [spread.values[place] for place in places]


@pytest.mark.parametrize("task", ["label", "number", "speech", "text"])
def test_training_and_the_run_time_measure_the_same(task: str, tmp_path: Path) -> None:
    made = {"label": train_once, "speech": hear_once, "text": write_once}
    folder = numbers(tmp_path) if task == "number" else made[task]()
    model = Model(folder)
    trained = reference.load(folder, model.info)
    found = of(model, folder.parent / "data" / "dev.csv")
    assert trained.rows == found.rows > 0
    assert trained.counts == found.counts
    measures = dict(found.measures)
    if task == "text":  # it reads no words, of which some could be unknown
        measures.pop("text.known")
    assert trained.measures.keys() == measures.keys()
    assert ("value" if task == "number" else "confidence") in measures
    for name, there in trained.measures.items():
        here = measures[name]
        assert there.n == here.n, name
        assert quartiles(there) == pytest.approx(quartiles(here), abs=1e-4), name


def test_a_new_reference_leaves_the_graphs_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(train_once(), folder)
    old = bundle.load(folder)
    made = renew(folder, train_once().parent / "data" / "dev.csv")
    new = bundle.verify(folder)
    assert reference.load(folder, new) == made
    assert new.model_copy(update={"files": old.files, "seal": old.seal}) == old
    changed = {name for name in new.files if new.files[name] != old.files[name]}
    assert changed <= {bundle.REFERENCE}


def test_rows_it_was_not_calibrated_on_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(train_once(), folder)
    before = bundle.load(folder)
    with pytest.raises(DataError, match=r"has 48 rows, .* calibrated on 24"):
        renew(folder, train_once().parent / "data" / "train.csv")
    assert bundle.load(folder) == before
