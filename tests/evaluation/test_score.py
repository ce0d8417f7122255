"""Evaluation: which rows count, under which subset, and how they are scored."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moodal import metrics
from moodal.errors import ConfigError, DataError
from moodal.evaluation.score import evaluate
from moodal.types import MAX_REJECTED, Record, Rejection

BAD, FAIR, GOOD = "0.8 0.1 0.1", "0.1 0.8 0.1", "0.1 0.1 0.8"
PICTURE = b"never opened"


def text(answer: str, target: str | None, **more: Any) -> Record:
    return Record(answer, text=more.pop("text", "a pear"), target=target, **more)


def both(of_text: str, of_image: str, target: str) -> Record:
    return Record(f"{of_text}/{of_image}", text="a pear", image=PICTURE, target=target)


def test_each_subset_is_scored_over_the_rows_that_hold_all_of_it(labelled: Any) -> None:
    rows = [
        text(FAIR, "fair"),
        both(BAD, GOOD, "bad"),  # text right, picture wrong
        both("0.4 0.3 0.3", GOOD, "good"),  # picture right, and louder: together right
    ]
    report = evaluate(labelled, rows, bootstrap=0)
    subsets = report.to_dict()["subsets"]
    assert list(subsets) == ["text", "image", "text+image"]
    assert {k: v["n"] for k, v in subsets.items()} == {"text": 3, "image": 2, "text+image": 2}
    assert subsets["text"]["accuracy"] == pytest.approx(2 / 3)
    assert subsets["image"]["accuracy"] == 0.5
    # 0.45 0.1 0.45 goes to the first label, 0.25 0.2 0.55 to good.
    assert subsets["text+image"]["accuracy"] == 1.0
    # The main score takes each row as it stands: both pairs and the lone text.
    assert report.scores["n"] == 3
    assert report.scores["accuracy"] == 1.0
    assert report.scores["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_every_row_is_scored_rejected_unlabelled_or_set_aside(labelled: Any) -> None:
    rows = [
        text(BAD, "bad"),
        text(BAD, None),
        text(BAD, "excellent", source="x.csv row 3"),
        Rejection("4", "x.csv row 4", "text", "is not UTF-8"),
        text("unreadable", "good", source="x.csv row 5"),
        text(FAIR, "fair"),
    ]
    report = evaluate(labelled, rows, among=["bad", "good"], bootstrap=0)
    assert (report.scores["n"], report.n_rejected, report.unlabelled, report.set_aside) == (
        1, 3, 1, 1,
    )  # fmt: skip
    reasons = [(r["source"], r["field"]) for r in report.to_dict()["rejected"]["rows"]]
    assert reasons == [("x.csv row 3", "label"), ("x.csv row 4", "text"), ("x.csv row 5", "image")]
    assert "excellent" in report.rejected[0].reason


def test_rejections_beyond_the_first_hundred_are_counted(labelled: Any) -> None:
    rows = [Rejection(str(i), "x", "text", "bad") for i in range(MAX_REJECTED + 7)]
    report = evaluate(labelled, [*rows, text(BAD, "bad")], bootstrap=0).to_dict()
    assert report["rejected"]["n"] == MAX_REJECTED + 7
    assert len(report["rejected"]["rows"]) == MAX_REJECTED


def test_only_the_named_labels_compete(labelled: Any) -> None:
    # Fair is the loudest; between bad and good, 0.1 and 0.3 become 0.25 and 0.75.
    report = evaluate(labelled, [text("0.1 0.6 0.3", "bad")], among=["good", "bad"], bootstrap=0)
    assert report.labels == ("bad", "good")
    (error,) = report.worst
    assert (error.answer, error.wrong_by) == ("good", pytest.approx(0.75))
    assert report.scores["confusion"] == [[0, 1], [0, 0]]


def test_labels_without_any_probability_compete_evenly(labelled: Any) -> None:
    report = evaluate(labelled, [text("0 1 0", "bad")], among=["good", "bad"], bootstrap=0)
    assert report.scores["log_loss"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("among", [["bad", "good", "superb"], ["good"], []])
def test_competing_labels_must_be_two_that_the_model_knows(labelled: Any, among: Any) -> None:
    with pytest.raises(ConfigError, match="it knows bad, fair, good"):
        evaluate(labelled, [text(BAD, "bad")], among=among)


def test_a_model_of_numbers_has_no_labels_to_compete(numbered: Any) -> None:
    with pytest.raises(ConfigError, match="answers with a number"):
        evaluate(numbered, [text("1", "1")], among=["1", "2"])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "0 without"),
        ([text(BAD, None)], "1 without"),
        ([text(BAD, "?")], "label the label '?'"),
    ],
)
def test_no_labelled_row_is_an_error_that_says_why(labelled: Any, rows: Any, why: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(labelled, rows, name="test.csv")
    assert str(caught.value).startswith("test.csv")
    assert why in str(caught.value)


def test_languages_come_from_the_column_or_else_the_script(labelled: Any) -> None:
    rows = [
        text(BAD, "bad", text="这家酒店的服务非常好"),
        text(BAD, "good", text="这家酒店的服务非常好"),
        text(BAD, "bad", text="the room was cold"),
        text(BAD, "good", text="the room was cold", lang="fr"),
    ]
    report = evaluate(labelled, rows, bootstrap=5)
    accuracies = {lang: part["accuracy"] for lang, part in report.languages.items()}
    assert accuracies == {"en": 1.0, "fr": 0.0, "zh": 0.5}
    assert report.languages["zh"]["n"] == 2
    assert "intervals" in report.languages["zh"]


def test_groups_are_scored_and_drawn_whole(labelled: Any) -> None:
    right = [text(BAD, "bad", group=f"ann{i}") for i in range(5)] * 20
    wrong = [text(BAD, "good", group=f"bob{i}") for i in range(5)] * 20
    report = evaluate(labelled, right + wrong, bootstrap=200).to_dict()
    assert report["groups"]["ann0"]["accuracy"] == 1.0
    assert report["groups"]["bob4"]["accuracy"] == 0.0
    assert report["bootstrap"]["drawn"] == "groups"
    # Ten groups drawn: bounds as wide as no drawing of 200 rows ever has.
    low, high = report["intervals"]["accuracy"]
    assert low <= 0.3
    assert high >= 0.7


def test_too_few_groups_to_draw_are_drawn_by_row(labelled: Any) -> None:
    right = [text(BAD, "bad", group="ann")] * 100
    wrong = [text(BAD, "good", group="bob")] * 100
    report = evaluate(labelled, right + wrong, bootstrap=200).to_dict()
    assert report["bootstrap"]["drawn"] == "rows"
    assert report["intervals"]["accuracy"][0] > 0.3


def test_rows_without_a_group_are_drawn_one_by_one(labelled: Any) -> None:
    grouped = [text(BAD, "bad", group="ann")]
    alone = [text(BAD, target) for target in ["bad", "good"] * 20]
    low, high = evaluate(labelled, grouped + alone).scores["intervals"]["accuracy"]
    # 41 units, half of them right: 0.51 +- 1.96 * 0.078.
    assert low == pytest.approx(0.36, abs=0.04)
    assert high == pytest.approx(0.66, abs=0.04)


def test_one_group_alone_falls_back_to_rows(labelled: Any) -> None:
    rows = [text(BAD, target, group="ann") for target in ["bad", "good"] * 20]
    report = evaluate(labelled, rows, bootstrap=100)
    assert report.resampled == "rows"
    low, high = report.scores["intervals"]["accuracy"]
    assert low < 0.5 < high


def test_the_same_seed_gives_the_same_report_and_another_seed_does_not(labelled: Any) -> None:
    rows = [text(answer, target) for answer in (BAD, GOOD) for target in ("bad", "good")] * 9
    first, again, other = (
        evaluate(labelled, rows, bootstrap=50, seed=seed).to_dict() for seed in (0, 0, 1)
    )
    assert first == again
    assert first["intervals"] != other["intervals"]


def test_the_worst_errors_are_the_most_confident_and_few_are_kept(labelled: Any) -> None:
    rows = [text(f"{p} {1 - p} 0", "good", source=f"row {p}") for p in np.linspace(0.6, 0.99, 40)]
    report = evaluate(labelled, [*rows, text("0 0 1", "good")], bootstrap=0)
    sizes = [error.wrong_by for error in report.worst]
    assert sizes == pytest.approx(list(np.linspace(0.6, 0.99, 40)[::-1][:12]))
    assert report.worst[0].record is rows[-1]


def test_a_regression_is_scored_on_its_values(numbered: Any) -> None:
    rows = [text("1.0", "1"), text("-2.5", "-1"), text("2", "2.25"), text("0", "high")]
    report = evaluate(numbered, rows, bootstrap=20)
    assert report.n_rejected == 1
    assert report.scores["mae"] == pytest.approx((0 + 1.5 + 0.25) / 3)
    assert [error.wrong_by for error in report.worst] == [1.5, 0.25]
    assert (report.worst[0].answer, report.worst[0].target) == ("-2.5", "-1")
    by_hand = metrics.regression(np.array([1, -1, 2.25]), np.array([1.0, -2.5, 2.0]))
    assert {k: report.scores[k] for k in by_hand} == by_hand


def test_the_numbers_are_plain_json_with_the_scores_on_top(labelled: Any) -> None:
    rows = [both(BAD, GOOD, "bad"), text(FAIR, "good", group="ann")] * 3
    report = evaluate(labelled, rows, bootstrap=10, name="test.csv").to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    wanted = {"n", "accuracy", "macro_f1", "weighted_f1", "macro_recall", "calibration_error",
              "intervals", "subsets", "languages", "groups", "rejected", "unlabelled",
              "set_aside", "labels", "worst", "name", "model"}  # fmt: skip
    assert wanted <= set(report)
