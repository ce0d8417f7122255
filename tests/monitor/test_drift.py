"""Drift: indices by hand, limits by chance, and real records with and without a change."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny import png, train_once, wav

from moodal.data import manifest, toy
from moodal.monitor import drift
from moodal.monitor.drift import Tally
from moodal.runtime import reference
from moodal.runtime.predict import Model
from moodal.runtime.reference import Reference, Seen, spread
from moodal.types import Record
from recipes.base.reference import seen

FOUR = spread([1, 1, 2, 4])  # percentiles 1, 2, 4, up to which 2, 3 and 4 of 4 rows lie


def cells(held: reference.Spread, values: list[float]) -> list[int]:
    found = [0] * (len(held.values) + 2)
    for value in values:
        found[held.cell(value)] += 1
    return found


def test_psi_by_hand() -> None:
    # Half a row more in each bin: p = 50.5/101, 50.5/101 and q = 80.5/101, 20.5/101;
    # 0.297030 x ln 1.594059 + 0.297030 x ln 2.463415 = 0.138498 + 0.267789
    assert drift.psi([50, 50], [80, 20]) == pytest.approx(0.406287, abs=1e-6)
    assert drift.psi([80, 20], [50, 50]) == pytest.approx(0.406287, abs=1e-6)


def test_psi_of_the_same_shares_is_nought_and_of_an_empty_bin_finite() -> None:
    assert drift.psi([10, 20, 30], [10, 20, 30]) == 0.0
    assert drift.psi([0, 100], [100, 0]) == pytest.approx(2 * (100 / 101) * np.log(201))


def test_ks_by_hand() -> None:
    # Up to 1, 2, 4 lie 1/2, 3/4, 1 of the reference; of 2, 2, 4, 5: 0, 1/2, 3/4.
    assert drift.ks(FOUR, cells(FOUR, [2, 2, 4, 5])) == 0.5
    # Of 1, 2, 2, 9: 1/4, 3/4, 3/4.
    assert drift.ks(FOUR, cells(FOUR, [1, 2, 2, 9])) == 0.25
    # Under 1 lies nothing of the reference, and 3/4 of these.
    assert drift.ks(FOUR, cells(FOUR, [-1, 0, 0, 4])) == 0.75


def test_ks_is_the_plain_one_but_for_a_step() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=900), rng.normal(0.3, 1.2, size=400)
    both = np.sort(np.concatenate([old, new]))
    steps = [np.searchsorted(np.sort(part), both, "right") / len(part) for part in (old, new)]
    plain = float(np.abs(steps[0] - steps[1]).max())
    found = drift.ks(held := spread(old.tolist()), cells(held, new.tolist()))
    assert plain - 1 / reference.GRID <= found <= plain


def test_limits_by_hand() -> None:
    # sqrt(-ln(0.0005) / 2 x 400 / 40,000)
    assert drift.ks_limit(200, 200) == pytest.approx(0.194947, abs=1e-6)
    # chi-square with 9 degrees of freedom exceeds 27.877 in a thousandth; 1/200 + 1/1800
    assert drift.chance_psi(200, 1800, 10) == pytest.approx(27.877 * (1 / 200 + 1 / 1800), rel=0.01)


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [(0.999, 9, 27.877), (0.999, 2, 13.816), (0.95, 4, 9.488), (0.999, 1, 10.828)],
)
def test_chi_square_is_that_of_the_tables(share: float, freedom: int, quantile: float) -> None:
    assert drift.chi_square(share, freedom) == pytest.approx(quantile, rel=0.035)


def test_equal_deciles_are_one_bin() -> None:
    held = spread([0.0] * 10 + [0.5] * 20 + [1.0] * 70)
    found = drift.of_measure("text.known", held, cells(held, [0.0] * 80 + [1.0] * 20))
    # Up to 0, up to 0.5, above: 10, 20, 70 of 100 against 80, 0, 20.
    assert found.psi == pytest.approx(drift.psi([10, 20, 70], [80, 0, 20]))
    assert found.modality == "text"


@pytest.mark.parametrize("value", [2.0, 4.0])
def test_what_was_constant_drifts_to_either_side(value: float) -> None:
    held = spread([3.0] * 1000)
    still = drift.of_measure("image.length", held, cells(held, [3.0] * 200))
    moved = drift.of_measure("image.length", held, cells(held, [3.0] * 100 + [value] * 100))
    assert (still.psi, still.ks, still.state) == (pytest.approx(0, abs=0.01), 0.0, "steady")
    assert moved.ks == 0.5
    assert moved.state == "drifting"


def test_of_few_rows_nothing_is_said() -> None:
    held = spread([0.0, 1.0] * 500)
    few = drift.of_measure("value", held, cells(held, [9.0] * (drift.FEW - 1)))
    enough = drift.of_measure("value", held, cells(held, [9.0] * drift.FEW))
    assert (few.state, enough.state) == ("few", "drifting")
    uneven = spread([0.0] * 100 + [1.0] * 900)
    none = drift.of_measure("value", uneven, cells(uneven, []))
    assert (none.n, none.state) == (0, "few")
    assert (none.psi, none.ks, none.ks_limit) == (0.0, None, None)


def test_a_measure_drifts_only_by_both_psi_and_ks() -> None:
    rng = np.random.default_rng(0)
    held = spread(rng.uniform(size=5000).tolist())
    # A tenth of the rows of the first decile into the next: far in PSI, near in KS.
    hopped = [v + 0.1 if v < 0.1 else v for v in rng.uniform(size=120).tolist()]
    found = drift.of_measure("value", held, cells(held, hopped))
    assert found.psi > found.psi_limit
    assert found.ks is not None
    assert found.ks_limit is not None
    assert found.ks < found.ks_limit
    assert found.state == "steady"


def test_counts_drift_and_know_what_is_new() -> None:
    held = {"en": 500, "zh": 500}
    steady = drift.of_count("language", held, {"en": 110, "zh": 90})
    new = drift.of_count("language", held, {"en": 100, "zh": 60, "": 40})
    assert steady.psi == pytest.approx(drift.psi([500, 500], [110, 90]))
    assert new.psi == pytest.approx(drift.psi([0, 500, 500], [40, 100, 60]))
    assert (steady.state, new.state, new.ks) == ("steady", "drifting", None)


def test_a_tally_passes_over_what_the_reference_lacks() -> None:
    held = reference.of([Seen({"a": 1.0}, {"label": "good"})] * 2)
    tally = Tally(held)
    tally.add({"a": 1.0, "b": 2.0}, {"label": "bad", "language": "zh"})
    assert {d.measure: d.n for d in tally.drifts()} == {"a": 1, "label": 1}
    old = Tally(Reference())
    old.add({"a": 1.0}, {"label": "bad"})
    assert old.drifts() == []


def test_what_has_not_changed_seldom_drifts_even_of_few_rows() -> None:
    rng = np.random.default_rng(3)
    held = spread(rng.normal(size=2000).tolist())
    windows = rng.normal(size=(1000, drift.FEW))
    found = [drift.of_measure("value", held, cells(held, w.tolist())) for w in windows]
    # The chance is a thousandth of each index; of both together it is less.
    assert sum(d.state == "drifting" for d in found) <= 3
    assert np.mean([d.psi >= d.psi_limit for d in found]) <= 0.01
    assert np.mean([(d.ks or 0) > (d.ks_limit or 1) for d in found]) <= 0.005


# Real files through a model


def longer(record: Record) -> Record:
    return replace(record, text=f"{record.text} " * 4 if record.text else None)


def darker(record: Record) -> Record:
    if not isinstance(record.image, Path):
        return record
    with Image.open(record.image) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return replace(record, image=png(pixels // 3))


def quieter(record: Record) -> Record:
    if not isinstance(record.audio, Path):
        return record
    samples, _ = soundfile.read(io.BytesIO(record.audio.read_bytes()), dtype="float32")
    return replace(record, audio=wav(samples / 10))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(train_once())


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Toy rows in random order, so that halves are alike."""
    folder = tmp_path_factory.mktemp("toy")
    toy.toy(folder, rows=320)
    found = [r for r in manifest.read(folder / "train.csv") if isinstance(r, Record)]
    np.random.default_rng(0).shuffle(found)  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def held(model: Model, records: list[Record]) -> Reference:
    return reference.of(seen(model, iter(records[:120])))


def drifting(held: Reference, rows: list[Seen]) -> set[str]:
    tally = Tally(held)
    for row in rows:
        tally.add(row.measures, row.counted)
    return {found.measure for found in tally.drifts() if found.state == "drifting"}


@pytest.mark.parametrize(
    ("change", "measure_name"),
    [(longer, "text.length"), (darker, "image.brightness"), (quieter, "audio.loudness_db")],
)
def test_a_change_of_one_modality_is_found_and_that_of_no_other(
    model: Model,
    records: list[Record],
    held: Reference,
    change: Callable[[Record], Record],
    measure_name: str,
) -> None:
    changed = list(seen(model, (change(record) for record in records[120:])))
    found = drifting(held, changed)
    assert measure_name in found
    modality = measure_name.partition(".")[0]
    assert not {name for name in found if "." in name and not name.startswith(f"{modality}.")}


def test_more_of_the_same_does_not_drift(
    model: Model, records: list[Record], held: Reference
) -> None:
    rows = list(seen(model, iter(records[120:])))
    assert drifting(held, rows) == set()
    rng = np.random.default_rng(0)
    for _ in range(100):
        picked = rng.choice(len(rows), 125, replace=False)
        assert drifting(held, [rows[i] for i in picked]) == set()
