"""Unlike sets: drawn by size to a power, and only a set's own labels compete in its rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import LABELLED

from moodal import api, config
from moodal.errors import ConfigError
from moodal.tasks import TASKS
from moodal.training import mixture
from moodal.training.examples import Examples

BIG, SMALL, UNLABELLED = "big", "small", "outliers"


@pytest.fixture
def examples() -> Examples:
    """90 rows of three labels, 10 of the first and the last alone, 4 without a label."""
    groups = [BIG] * 90 + [SMALL] * 10 + [UNLABELLED] * 4
    codes = np.array([*([0, 1, 2] * 30), *([0, 2] * 5), *([np.nan] * 4)])
    even = {row: np.full(3, 1 / 3) for row in range(100, 104)}
    return Examples(codes, {}, probabilities=even, groups=groups)


def order_of(examples: Examples, exponent: float) -> mixture.Rows:
    found = mixture.fit(examples, 3, exponent=exponent, power=0)
    return found.order(examples.groups, np.random.default_rng(0))


def drawn(examples: Examples, exponent: float) -> dict[str, int]:
    rows = mixture.fit(examples, 3, exponent=exponent, power=0).order(
        examples.groups, np.random.default_rng(0)
    )
    names, counts = np.unique(np.array(examples.groups)[rows], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_an_exponent_of_one_draws_every_row_once(examples: Examples) -> None:
    order = mixture.fit(examples, 3, exponent=1.0, power=0).order(
        examples.groups, np.random.default_rng(0)
    )
    assert sorted(order.tolist()) == list(range(104))


def test_a_lower_exponent_draws_small_sets_more_often(examples: Examples) -> None:
    assert drawn(examples, 0.0) == {BIG: 35, SMALL: 35, UNLABELLED: 35}
    roots = np.sqrt([90, 10, 4])
    wanted = np.rint(104 * roots / roots.sum()).astype(int).tolist()
    assert drawn(examples, 0.5) == dict(zip([BIG, SMALL, UNLABELLED], wanted, strict=True))


def test_rows_of_a_small_set_are_drawn_equally_often(examples: Examples) -> None:
    order = mixture.fit(examples, 3, exponent=0.0, power=0).order(
        examples.groups, np.random.default_rng(0)
    )
    counts = np.bincount(order, minlength=104)[90:100]
    assert counts.max() - counts.min() == 1


def test_the_labels_of_a_set_compete_and_all_do_where_a_set_has_none(examples: Examples) -> None:
    found = mixture.fit(examples, 3, exponent=0.5, power=0)
    weights = found.weigh([BIG, SMALL, UNLABELLED, "unseen"], 3)
    assert weights.tolist() == [[1] * 3, [1, 0, 1], [1] * 3, [1] * 3]


def test_a_class_weighs_by_its_frequency_and_the_mean_row_one() -> None:
    codes = np.array([0.0, 0.0, 0.0, 1.0, np.nan])
    assert mixture.class_weights(codes, 2, 1.0).tolist() == pytest.approx([4 / 6, 2.0])
    half = mixture.class_weights(codes, 2, 0.5)
    assert half[1] / half[0] == pytest.approx(3**0.5)
    assert half[codes[:4].astype(int)].mean() == pytest.approx(1.0)
    assert mixture.class_weights(codes, 3, 1.0).tolist() == pytest.approx([4 / 6, 2.0, 0.0])
    assert mixture.class_weights(codes, 1, 1.0).tolist() == [1.0]


def test_a_class_weighs_by_its_frequency_in_its_own_set(examples: Examples) -> None:
    codes = examples.codes.copy()
    codes[90:98] = 0
    skewed = Examples(codes, {}, groups=examples.groups)
    found = mixture.fit(skewed, 3, exponent=1, power=1).weigh([BIG, SMALL], 3)
    assert found[0].tolist() == pytest.approx([1, 1, 1])
    n_first = int((codes[90:100] == 0).sum())
    assert found[1].tolist() == pytest.approx([5 / n_first, 0, 5 / (10 - n_first)])


def test_sets_may_have_powers_of_their_own(examples: Examples) -> None:
    codes = examples.codes.copy()
    codes[:30], codes[90:98] = 0, 0
    skewed = Examples(codes, {}, groups=examples.groups)

    def weights(power: float | dict[str, float]) -> list[list[float]]:
        found = mixture.fit(skewed, 3, exponent=1, power=power)
        return found.weigh([BIG, SMALL], 3).tolist()

    assert weights({SMALL: 1}) == [weights(0)[0], weights(1)[1]]
    assert weights({BIG: 0.5, SMALL: 0}) == [weights(0.5)[0], weights(0)[1]]
    with pytest.raises(ConfigError, match=r"of nowhere; the sets \(.*\) are big, outliers, small"):
        mixture.fit(skewed, 3, exponent=1, power={"nowhere": 1})


def test_the_score_of_a_set_is_among_its_own_labels(examples: Examples) -> None:
    labelled = Examples(examples.codes[:100], {}, groups=examples.groups[:100])
    raw = np.tile([0.0, 5.0, 1.0], (100, 1))  # "1" always, and "2" where "1" does not compete
    found = mixture.fit(labelled, 3, exponent=0.5, power=0)
    scores = mixture.scores(TASKS[LABELLED], ("a", "b", "c"), labelled, raw, found)
    assert scores[BIG] == pytest.approx((0 + 0.5 + 0) / 3)
    assert scores[SMALL] == pytest.approx((0 + 2 / 3) / 2)
    one = mixture.scores(TASKS[LABELLED], ("a", "b", "c"), labelled, raw, None)
    assert list(one) == [""]


def unlike(folder: Path) -> tuple[Path, Path]:
    """Two sets, one of them without the middle label, and rows that have only probabilities."""
    tiny.rows(folder)
    paths = []
    for part in ("train", "dev"):
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for place, row in enumerate(rows):
            row["group"] = "three" if place % 2 or row["label"] == "fair" else "two"
            row["probabilities"] = ""
        for row in rows[:4]:
            row |= {"group": "unsure", "label": "", "probabilities": '{"bad": 1, "good": 1}'}
        path = folder / f"{part}-unlike.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        paths.append(path)
    return paths[0], paths[1]


def test_unlike_sets_train_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, dev = unlike(tmp_path / "data")
    settings = (*tiny.SETTINGS, "train.mixture=0.5", f"cache={tmp_path / 'cache'}")
    model = api.train(train, valid=dev, out=tmp_path / "model", settings=settings)
    told = capsys.readouterr().err
    assert ", three 0." in told or ", three 1." in told
    assert model.info.labels == ("bad", "fair", "good")
    assert model.info.data["train"]["unlabelled"] == 0
    assert model.info.data["valid"]["unlabelled"] == 4


def test_powers_of_sets_are_refused_where_there_are_no_sets(tmp_path: Path) -> None:
    train, valid = unlike(tmp_path)
    settings = (*tiny.SETTINGS, "train.class_weights={two: 1}")
    with pytest.raises(ConfigError, match=r"there are no sets; set train\.mixture"):
        api.train(train, valid=valid, out=tmp_path / "model", settings=settings)


@pytest.mark.parametrize("given", ["2", "abc", "{two: 2}", "{two: much}", "[1]"])
def test_what_is_no_power_is_refused_in_one_sentence(given: str) -> None:
    with pytest.raises(ConfigError, match=r"class_weights=.*: give a power from 0 to 1") as caught:
        config.load(settings=[f"train.class_weights={given}"])
    assert ";" not in str(caught.value)
