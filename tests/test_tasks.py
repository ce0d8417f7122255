"""The Task table: what each task makes of targets and scores, by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import LABELLED, NUMBERED

from moodal import config
from moodal.config import Run
from moodal.errors import DataError, RecordError
from moodal.preprocess import symbols
from moodal.preprocess.symbols import END
from moodal.tasks import MOST_SHOWN, TASKS, configure, fit_softmax_temperature, softmax
from moodal.types import MODALITIES, Said, TaskName, Token

LABELS = ("bad", "fair", "good")
TEXTS = tuple(name for name, task in TASKS.items() if task.head != "summary")
WRITTEN, HEARD = TASKS["summarise"], TASKS["transcribe"]
SCORES = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5)


def test_the_table_holds_every_task_under_its_own_name() -> None:
    assert tuple(TASKS) == get_args(TaskName)
    for name, task in TASKS.items():
        assert task.name == name
        assert set(task.reads) <= set(MODALITIES)


@pytest.mark.parametrize("name", [LABELLED, NUMBERED])
def test_the_goal_is_a_score_and_its_direction_is_the_right_one(name: str) -> None:
    task = TASKS[name]
    labels = LABELS if name == LABELLED else ()
    codes = np.array([0.0, 1.0, 2.0, 1.0])
    right = np.eye(3)[codes.astype(int)] if labels else codes[:, None]
    wrong = np.roll(right, 1, axis=0)
    good, bad = (task.score(codes, answers, labels)[task.goal] for answers in (right, wrong))
    assert (good > bad) is task.higher_is_better


@pytest.mark.parametrize("name", TEXTS)
def test_the_goal_of_texts_is_a_score_and_its_direction_is_the_right_one(name: str) -> None:
    task = TASKS[name]
    targets = ("the cat sat", "天气很好", "a dog ran home")
    right = [Said(target, (), 0.9) for target in targets]
    wrong = [Said(target, (), 0.9) for target in ("nothing of it", "不", "")]
    good, bad = (
        task.score(
            np.zeros(3),
            np.stack([task.judge(t, s) for t, s in zip(targets, given, strict=True)]),
            (),
        )[task.goal]
        for given in (right, wrong)
    )
    assert (good > bad) is task.higher_is_better
    assert good == (1.0 if task.higher_is_better else 0.0)


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


@pytest.mark.parametrize("name", [LABELLED, NUMBERED])
def test_too_few_different_targets_and_wrong_ones_are_refused(name: str) -> None:
    task = TASKS[name]
    for counts in (Counter(), Counter({"1": 9})):
        with pytest.raises(DataError, match="at least two different"):
            task.fit_codec(counts)
    labels = LABELS if name == LABELLED else ()
    with pytest.raises(RecordError, match="superb") as caught:
        task.encode_target("superb", labels)
    assert caught.value.field == "label"


# Answers that are one number a record: their targets, what is read of them, what may be shown


def test_targets_of_one_answer_are_one_position_of_its_width() -> None:
    none = [np.zeros(0, np.int64)] * 2
    x, mask = TASKS[LABELLED].targets(np.array([2.0, 0.0]), none, 3)
    assert x.tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    assert mask.tolist() == [[True], [True]]
    x, mask = TASKS[NUMBERED].targets(np.array([2.5, -1.0]), none, 1)
    assert x.tolist() == [[[2.5]], [[-1.0]]]


@pytest.mark.parametrize("name", [LABELLED, NUMBERED])
def test_what_has_one_answer_spells_nothing_and_is_judged_by_the_answer_itself(name: str) -> None:
    task, answer = TASKS[name], np.array([0.25, 0.75])
    assert task.spell("good", LABELS, None).size == 0
    assert task.judge("good", answer) is answer
    assert task.nothing(answer) is answer, "nothing seen is answered with the prior"
    assert task.worth(answer, 1) == 0.75
    assert not task.windowed
    assert dict(task.kinds) == {}


def test_a_wrong_label_is_off_by_its_confidence_and_a_right_one_by_nothing() -> None:
    task, answer = TASKS[LABELLED], np.array([0.2, 0.8])
    decoded = task.decode(answer, ("bad", "good"))
    assert task.read("bad", 0.0, answer, decoded) == ("good", 0.8)
    assert task.read("good", 1.0, answer, decoded) == ("good", 0.0)


def test_a_number_is_off_by_its_distance() -> None:
    task, answer = TASKS[NUMBERED], np.array([2.5])
    assert task.read("4", 4.0, answer, task.decode(answer, ())) == ("2.5", 1.5)


def test_a_model_carries_the_commonest_labels_and_no_ones_text() -> None:
    counts = Counter({str(n): n for n in range(1, MOST_SHOWN + 5)})
    shown = TASKS[LABELLED].shown(counts)
    assert len(shown) == MOST_SHOWN
    assert min(shown.values()) == 5
    assert WRITTEN.shown(counts) == HEARD.shown(counts) == {}


# Texts


def test_a_summary_is_spelled_in_the_symbols_it_is_made_of_and_ends() -> None:
    known = symbols.fit(["the cat sat on the mat", "天气很好 天气很好"] * 3, size=60)
    labels = WRITTEN.fit_codec(Counter({"the cat": 1}), known.pieces)
    assert labels == known.pieces
    assert WRITTEN.n_outputs(labels) == len(known)
    codes = WRITTEN.spell("the cat 天", labels, known)
    assert codes.dtype == np.int64
    assert codes[-1] == END
    assert "".join(labels[code] for code in codes).strip() == "the cat 天"
    assert WRITTEN.spell("", labels, known).tolist() == [END]


def test_a_transcript_is_spelled_character_by_character_behind_the_blank() -> None:
    labels = HEARD.fit_codec(Counter({"ab a": 2, "好": 1}), ())
    assert labels == ("", " ", "a", "b", "好")
    assert HEARD.n_outputs(labels) == 5
    assert HEARD.spell("ba 好", labels, None).tolist() == [3, 2, 1, 4]


@pytest.mark.parametrize("name", TEXTS)
def test_targets_of_texts_are_padded_to_the_longest(name: str) -> None:
    spelled = [np.array([4, 5, 3]), np.array([3]), np.zeros(0, np.int64)]
    x, mask = TASKS[name].targets(np.zeros(3), spelled, 9)
    assert x.tolist() == [[4, 5, 3], [3, 0, 0], [0, 0, 0]]
    assert mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert x.dtype == np.int64


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_decoded_as_it_was_said(name: str) -> None:
    task, tokens = TASKS[name], (Token("good", 0.8), Token("day", 0.4))
    said = Said("good day", tokens, 0.6)
    decoded = task.decode(said, ("x",))
    assert (decoded.text, decoded.tokens, decoded.confidence) == ("good day", tokens, 0.6)
    assert (decoded.label, decoded.value, decoded.probabilities) == (None, None, {})
    assert task.worth(said, decoded.index) == 0.6


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_seen_is_answered_with_no_text_and_no_confidence(name: str) -> None:
    task = TASKS[name]
    prior = task.prior(np.zeros(3), 7)
    assert prior.tolist() == [0]
    assert task.nothing(prior) == Said("", (), 0.0)
    assert task.worth(task.nothing(prior), 0) == prior[0]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_starts_from_no_bias_and_is_not_changed_by_temperature(name: str) -> None:
    bias, scale = TASKS[name].start(np.zeros(3), 5)
    assert (bias.tolist(), scale) == ([0.0] * 5, 1.0)
    judged = np.arange(6.0).reshape(2, 3)
    assert TASKS[name].fit_temperature(judged, np.zeros(2)) == 1.0
    assert TASKS[name].activate(judged, 3.0) is judged


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_no_probabilities_to_learn_from(name: str) -> None:
    with pytest.raises(RecordError) as caught:
        TASKS[name].encode_probabilities({"good": 1.0}, ("", "g"))
    assert caught.value.field == "probabilities"


def test_a_transcript_is_off_by_its_word_error_rate() -> None:
    def wrong_by(target: str, text: str) -> float:
        said = Said(text, (), 0.5)
        judged, decoded = HEARD.judge(target, said), HEARD.decode(said, ())
        answer, off = HEARD.read(target, 0.0, judged, decoded)
        assert answer == text
        return off

    assert wrong_by("a b c d", "a b c d") == 0
    assert wrong_by("a b c d", "a x c") == pytest.approx(2 / 4)
    assert wrong_by("", "a b") == 2


def test_a_summary_is_off_by_what_its_longest_common_run_of_words_lacks() -> None:
    said = Said("a b x", (), 0.5)  # ROUGE-L: 2 of 3 words, and 2 of 4
    judged = WRITTEN.judge("a b c d", said)
    answer, off = WRITTEN.read("a b c d", 0.0, judged, WRITTEN.decode(said, ()))
    assert answer == "a b x"
    assert off == pytest.approx(1 - 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


def test_speech_is_written_down_from_sound_alone() -> None:
    assert HEARD.reads == ("audio",)
    assert WRITTEN.reads == MODALITIES


def test_the_settings_of_a_task_hold_where_nothing_else_is_said() -> None:
    run = configure(None, ("task=transcribe",), under={}, columns=())
    assert (run.audio_encoder.kind, run.fusion.width) != (
        config.Run().audio_encoder.kind,
        config.Run().fusion.width,
    )
    for stage, values in HEARD.defaults.items():
        for key, value in values.items():
            assert getattr(getattr(run, stage), key) == value
    said = configure(None, ("task=transcribe", "fusion.width=16"), under={}, columns=())
    assert said.fusion.width == 16
    parent = configure(None, ("task=transcribe",), under={"fusion": {"width": 20}}, columns=())
    assert parent.fusion.width == 20
    assert parent.audio_encoder == run.audio_encoder
    given = config.parse({"task": "transcribe", "train": {"epochs": 3}})
    assert configure(given, (), under={}, columns=()).train.epochs == 3
    assert configure(None, (), under={}, columns=()) == config.Run(), (
        "the first task has none of its own"
    )


def test_pictures_alone_have_settings_of_their_own() -> None:
    def epochs(*settings: str, columns: tuple[str, ...] = ("photo", "label"), **under: Any) -> int:
        return configure(None, settings, under=under, columns=columns).train.epochs

    plain = Run().train.epochs
    assert epochs("columns.image=photo") > plain
    assert epochs("columns.image=photo", "train.epochs=3") == 3
    assert epochs("columns.image=photo", columns=("photo", "text")) == plain
    assert epochs("modalities=[image]", columns=("text", "image")) > plain
    assert epochs("columns.image=photo", image_encoder={"width": 96}) == plain, "as its parent"
