"""How often answers are right: by confidence and by what people say, computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moodal.monitor import quality
from moodal.monitor.quality import Quality, Tally
from tests.store.samples import judgement, served


def of(tally: Tally, kind: str = "all", name: str = "") -> Quality:
    [found] = [q for q in tally.qualities() if (q.kind, q.name) == (kind, name)]
    return found


def test_wilson_is_that_of_the_book() -> None:
    # 8 right of 10, z = 1.96: (0.8 + 0.19207) / 1.38415 +- 1.41602 x sqrt(0.016 + 0.0096037)
    assert quality.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert quality.wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert quality.wilson(10, 10)[1] == pytest.approx(1.0)


def test_the_estimate_is_the_mean_confidence_by_hand() -> None:
    tally = Tally(sure=True)
    for n, confidence in enumerate((0.9, 0.6, 0.6, 0.5)):
        tally.add(served(n, confidence=confidence))
    found = of(tally)
    assert found.estimated == pytest.approx(0.65)
    # Variances 0.09 + 0.24 + 0.24 + 0.25 of how many are right; 1.96 x sqrt(0.82) / 4 = 0.4437
    assert found.estimated_interval == pytest.approx((0.65 - 0.4437, 1.0), abs=1e-4)
    assert (found.n, found.n_feedback, found.feedback, found.expected) == (4, 0, None, None)


def test_the_interval_holds_what_was_right_in_95_of_100_worlds() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        sure = rng.uniform(0.4, 1.0, 200)
        low, high = quality.likely(sure.sum(), (sure * (1 - sure)).sum(), 200)
        held += low <= (rng.random(200) < sure).mean() <= high
    assert 0.93 <= held / 1000 <= 0.975


def test_what_people_say_is_counted_beside_what_was_expected_of_the_same() -> None:
    tally = Tally(sure=True)
    for n in range(10):
        tally.add(served(n, confidence=0.9))
    for n, label in enumerate(("positive", "positive", "negative", "positive")):
        tally.judge(served(n, confidence=0.6), judgement(n, n, label=label))
    found = of(tally)
    assert (found.n, found.n_feedback, found.feedback) == (10, 4, 0.75)
    assert found.feedback_interval == quality.wilson(3, 4)
    assert found.expected == pytest.approx(0.6)  # not 0.9, which all answers have


def test_languages_and_modalities_have_numbers_of_their_own() -> None:
    tally = Tally(sure=True)
    tally.add(served(0, language="zh", confidence=0.9))
    tally.add(served(1, language="en", modalities="text+image", confidence=0.5))
    tally.add(served(2, language="", modalities="image", confidence=0.7))
    tally.add(served(3, language="", modalities="", confidence=0.1))  # an answer to nothing
    assert [(q.kind, q.name, q.n) for q in tally.qualities()] == [
        ("all", "", 3),
        ("language", "en", 1),
        ("language", "zh", 1),
        ("modalities", "image", 1),
        ("modalities", "text", 1),
        ("modalities", "text+image", 1),
    ]
    assert of(tally, "language", "zh").estimated == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("answered", "said", "share"),
    [
        ({"label": "positive"}, "positive", 1.0),
        ({"label": "positive"}, "negative", 0.0),
        ({"label": None, "value": 2.0}, "2.0", 1.0),
        ({"label": None, "value": 2.0}, "2.5", 0.0),
        ({"label": None, "said": "some rice and tea"}, "some rice", 0.5),
        ({"label": None, "said": "rice rice"}, "rice", 0.5),
        ({"label": None, "said": ""}, "rice", 0.0),
        ({"label": None, "said": ""}, " ", 1.0),
        ({"label": None, "said": None}, "rice", None),
    ],
)
def test_an_answer_is_right_by_its_kind(
    answered: dict[str, Any], said: str, share: float | None
) -> None:
    assert quality.right(served(1, **answered), judgement(1, 1, label=said)) == share


def test_a_number_has_no_confidence_to_estimate_from() -> None:
    tally = Tally(sure=False)
    row = served(1, label=None, value=2.0, confidence=0.0)
    tally.add(row)
    tally.judge(row, judgement(1, 1, label="2.0"))
    found = of(tally)
    assert (found.estimated, found.estimated_interval, found.expected) == (None, None, None)
    assert (found.n, found.feedback) == (1, 1.0)


def test_of_nothing_there_is_nothing_to_say() -> None:
    [found] = Tally(sure=True).qualities()
    assert found.to_dict() == {
        "kind": "all",
        "name": "",
        "n": 0,
        "estimated": None,
        "estimated_interval": None,
        "n_feedback": 0,
        "feedback": None,
        "feedback_interval": None,
        "expected": None,
    }
