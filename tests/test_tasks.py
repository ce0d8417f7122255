"""The Task table: what each task makes of targets and scores, by hand."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import LABELLED, NUMBERED

from moodal.errors import DataError, RecordError
from moodal.tasks import TASKS, fit_softmax_temperature, softmax
from moodal.types import MODALITIES, TaskName

LABELS = ("bad", "fair", "good")
SCORES = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5)


def test_the_table_holds_every_task_under_its_own_name() -> None:
    assert tuple(TASKS) == get_args(TaskName)
    for name, task in TASKS.items():
        assert task.name == name
        assert set(task.reads) <= set(MODALITIES)


@pytest.mark.parametrize("name", TASKS)
def test_the_goal_is_a_score_and_its_direction_is_the_right_one(name: str) -> None:
    task = TASKS[name]
    labels = LABELS if name == LABELLED else ()
    codes = np.array([0.0, 1.0, 2.0, 1.0])
    right = np.eye(3)[codes.astype(int)] if labels else codes[:, None]
    wrong = np.roll(right, 1, axis=0)
    good, bad = (task.score(codes, answers, labels)[task.goal] for answers in (right, wrong))
    assert (good > bad) is task.higher_is_better


@given(SCORES, st.floats(0.05, 20))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_scores(
    scores: list[list[float]], temperature: float
) -> None:
    given_scores = np.array(scores)
    probabilities = TASKS[LABELLED].activate(given_scores, temperature)
    assert np.allclose(probabilities.sum(1), 1)
    assert (probabilities >= 0).all()
    highest = probabilities[np.arange(len(scores)), given_scores.argmax(1)]
    assert np.allclose(highest, probabilities.max(1))


def test_softmax_by_hand() -> None:
    scores = np.log([[1.0, 3.0]])
    assert softmax(scores)[0] == pytest.approx([0.25, 0.75])
    assert softmax(scores, 0.5)[0] == pytest.approx([0.1, 0.9])
    assert softmax(scores + 1000)[0] == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20_000, 3))
    codes = (softmax(honest).cumsum(1) < rng.random((20_000, 1))).sum(1).astype(float)
    assert fit_softmax_temperature(honest * true, codes) == pytest.approx(true, rel=0.05)


def test_a_few_rows_do_not_make_a_model_certain_and_many_do() -> None:
    scores, right = np.eye(3), np.arange(3.0)
    few = fit_softmax_temperature(scores, right)
    many = fit_softmax_temperature(np.tile(scores, (1000, 1)), np.tile(right, 1000))
    assert 0.05 <= many < 0.3 < few < 1.0
    wrong = fit_softmax_temperature(np.tile(scores, (1000, 1)), np.tile(right[::-1], 1000))
    assert 5 < wrong <= 20


def test_a_label_is_decoded_with_its_probability() -> None:
    decoded = TASKS[LABELLED].decode(np.array([0.2, 0.5, 0.3]), LABELS)
    assert (decoded.index, decoded.label, decoded.value) == (1, "fair", None)
    assert decoded.confidence == 0.5
    assert decoded.probabilities == {"bad": 0.2, "fair": 0.5, "good": 0.3}


def test_a_number_is_decoded_as_it_is() -> None:
    decoded = TASKS[NUMBERED].decode(np.array([-2.5]), ())
    assert (decoded.index, decoded.label, decoded.value) == (0, None, -2.5)
    assert (decoded.probabilities, decoded.confidence) == ({}, 0.0)


def test_targets_become_codes_and_answers_have_their_width() -> None:
    labelled, numbered = TASKS[LABELLED], TASKS[NUMBERED]
    labels = labelled.fit_codec(Counter(["good", "bad", "good", "fair"]))
    assert labels == LABELS
    assert [labelled.encode_target(t, labels) for t in LABELS] == [0, 1, 2]
    assert labelled.n_outputs(labels) == 3
    assert numbered.fit_codec(Counter(["1", "2.5"])) == ()
    assert numbered.encode_target("-2.5e1", ()) == -25.0
    assert numbered.n_outputs(()) == 1


def test_the_start_is_the_answer_of_a_model_that_has_learned_nothing() -> None:
    codes = np.array([0.0, 4.0, 8.0])
    bias, scale = TASKS[NUMBERED].start(codes, 1)
    assert bias.tolist() == [4.0]
    assert scale == pytest.approx(codes.std())
    bias, scale = TASKS[LABELLED].start(codes, 3)
    assert (bias.tolist(), scale) == ([0.0, 0.0, 0.0], 1.0)


def test_the_prior_is_what_is_answered_when_nothing_is_seen() -> None:
    assert TASKS[LABELLED].prior(np.array([0.0, 0, 2, 2]), 4).tolist() == [0.5, 0, 0.5, 0]
    assert TASKS[NUMBERED].prior(np.array([1.0, 2, 6]), 1).tolist() == [3.0]


def test_numbers_are_not_changed_by_calibration() -> None:
    scores = np.array([[3.0], [-1.0]], np.float32)
    task = TASKS[NUMBERED]
    assert task.fit_temperature(scores, np.zeros(2)) == 1.0
    assert task.activate(scores, 7.0).tolist() == [[3.0], [-1.0]]


@pytest.mark.parametrize("name", TASKS)
def test_too_few_different_targets_and_wrong_ones_are_refused(name: str) -> None:
    task = TASKS[name]
    for counts in (Counter(), Counter({"1": 9})):
        with pytest.raises(DataError, match="at least two different"):
            task.fit_codec(counts)
    labels = LABELS if name == LABELLED else ()
    with pytest.raises(RecordError, match="superb") as caught:
        task.encode_target("superb", labels)
    assert caught.value.field == "label"
