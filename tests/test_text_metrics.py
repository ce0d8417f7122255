"""Scores of texts worked by hand, and against a second implementation; intervals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal import text_metrics
from moodal.errors import CapacityError, DataError
from moodal.metrics import percentiles
from moodal.text_metrics import (
    SUMMARY,
    TRANSCRIPT,
    matches,
    summaries,
    summary_resampled,
    summary_row,
    transcript_resampled,
    transcript_row,
    transcripts,
    words,
)

Row = Callable[[str, str, float], np.ndarray]

HEARD = [
    ("one two three", "one too three four"),  # two of three words, and one too many
    ("今天天气好", "今天天汽"),  # one character wrong, one left out, of five
    ("seven", "seven"),
]


def rows(row: Row, pairs: list[tuple[str, str]], confidence: float = 0.5) -> np.ndarray:
    return np.stack([row(target, answer, confidence) for target, answer in pairs])


def named(values: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def test_a_transcript_by_hand() -> None:
    row = named(transcript_row("one two three", "one too three four", 0.9), TRANSCRIPT)
    assert row == {
        "substitutions": 1,
        "deletions": 0,
        "insertions": 1,
        "words": 3,
        "character_errors": 6,  # w -> o, and " four"
        "characters": 13,
        "exact": 0,
        "right": 0.5,
        "confidence": 0.9,
    }


def test_a_chinese_character_is_a_word() -> None:
    row = named(transcript_row("今天天气好", "今天天汽", 0.5), TRANSCRIPT)
    assert (row["substitutions"], row["deletions"], row["insertions"]) == (1, 1, 0)
    assert row["words"] == row["characters"] == 5
    assert row["character_errors"] == 2
    assert row["right"] == 0.75
    assert words("我爱 Python3 很多") == ["我", "爱", "Python3", "很", "多"]


def test_errors_are_summed_before_they_are_divided() -> None:
    scores = transcripts(None, rows(transcript_row, HEARD))
    assert scores["n"] == 3
    assert scores["wer"] == pytest.approx(4 / 9), "not the mean over rows, 16/45"
    assert scores["cer"] == pytest.approx(8 / 23)
    assert scores["exact"] == pytest.approx(1 / 3)
    assert scores["substitutions"] == pytest.approx(2 / 9)
    assert scores["deletions"] == scores["insertions"] == pytest.approx(1 / 9)
    assert scores["confidence"] == 0.5
    # Right are 0.5, 0.75 and 1 of the words, 0.5 is said of all: 0.25 off together.
    assert scores["calibration_error"] == pytest.approx(0.25)


def test_texts_are_scored_as_written_but_for_spaces() -> None:
    assert transcript_row("Yes.", "yes", 1.0)[:3].sum() == 1
    for target, answer in (("a  b", " a b\n"), ("今天 天气", "今天天气"), ("爱 you", "爱you")):
        row = named(transcript_row(target, answer, 1.0), TRANSCRIPT)
        assert (row["exact"], row["right"], row["character_errors"]) == (1, 1, 0)
    assert named(transcript_row("ab", "a b", 1.0), TRANSCRIPT)["character_errors"] == 1


def test_an_empty_answer_leaves_everything_out() -> None:
    row = named(transcript_row("one two", "", 0.0), TRANSCRIPT)
    assert (row["deletions"], row["words"], row["character_errors"]) == (2, 2, 7)
    assert (row["exact"], row["right"]) == (0, 0)
    assert transcripts(None, rows(transcript_row, [("one two", "")]))["wer"] == 1.0
    assert summaries(None, rows(summary_row, [("one two", "")]))["rouge1"] == 0.0
    assert summaries(None, rows(summary_row, [("one two", "")]))["length_ratio"] == 0.0


def test_an_empty_target_has_no_rate_of_its_own() -> None:
    scores = transcripts(None, rows(transcript_row, [("", "one")]))
    assert scores["wer"] is scores["cer"] is None
    assert transcripts(None, rows(transcript_row, [("", "")]))["exact"] == 1.0
    beside = transcripts(None, rows(transcript_row, [("", "one"), ("two", "two")]))
    assert beside["wer"] == 1.0, "what is said over silence is an error"
    assert summaries(None, rows(summary_row, [("", "one")]))["length_ratio"] is None
    drawn = transcript_resampled(
        None, rows(transcript_row, [("", "one")]), rng=np.random.default_rng(0), n=10
    )
    intervals = percentiles(drawn)
    assert "wer" not in intervals
    assert intervals["exact"] == [0.0, 0.0]


spoken = st.lists(st.sampled_from(["one", "two", "three", "on"]), max_size=6).map(" ".join)


@given(st.lists(st.tuples(spoken.filter(bool), spoken), min_size=1, max_size=5))
def test_error_rates_are_those_of_jiwer(pairs: list[tuple[str, str]]) -> None:
    targets, answers = map(list, zip(*pairs, strict=True))
    scores = transcripts(None, rows(transcript_row, pairs))
    assert scores["wer"] == pytest.approx(jiwer.wer(targets, answers))
    assert scores["cer"] == pytest.approx(jiwer.cer(targets, answers))
    assert scores["wer"] == pytest.approx(
        scores["substitutions"] + scores["deletions"] + scores["insertions"]
    )


def test_a_summary_by_hand() -> None:
    # Shared: the, cat, sat (3 of 4 and 3 of 6); "the cat" of 3 and 5 pairs; in order: all three.
    row = named(summary_row("The cat sat on the mat", "the cat, it sat", 0.7), SUMMARY)
    assert row["rouge1"] == pytest.approx(2 * 3 / (4 + 6))
    assert row["rouge2"] == pytest.approx(2 * 1 / (3 + 5))
    assert row["rougeL"] == pytest.approx(2 * 3 / (4 + 6))
    assert (row["answer_words"], row["target_words"], row["confidence"]) == (4, 6, 0.7)


def test_a_chinese_summary_is_compared_by_character() -> None:
    # Shared: 天气很好 (4 of 4 and 4 of 6); 天气 气很 很好 (3 of 3 and 3 of 5).
    row = named(summary_row("今天天气很好。", "天气很好", 0.5), SUMMARY)
    assert row["rouge1"] == row["rougeL"] == pytest.approx(2 * 4 / (4 + 6))
    assert row["rouge2"] == pytest.approx(2 * 3 / (3 + 5))
    turned = named(summary_row("天气很好", "很好天气", 0.5), SUMMARY)
    assert (turned["rouge1"], turned["rougeL"]) == (1.0, 0.5)


def test_mixed_scripts_share_words_and_characters() -> None:
    row = named(summary_row("我爱Python编程", "爱 PYTHON", 0.5), SUMMARY)
    assert (row["answer_words"], row["target_words"]) == (2, 5)
    assert row["rouge1"] == pytest.approx(2 * 2 / (2 + 5))


def test_words_are_not_stemmed() -> None:
    assert summary_row("he runs", "he running", 0.5)[0] == 0.5


def test_summaries_are_means_over_rows() -> None:
    scores = summaries(None, rows(summary_row, [("a b", "a b"), ("a b c d", "x")]))
    assert scores == {
        "n": 2,
        "rouge1": 0.5,
        "rouge2": 0.5,
        "rougeL": 0.5,
        "length_ratio": 0.5,
        "confidence": 0.5,
    }


@pytest.mark.parametrize(
    ("row", "score", "resampled", "watched"),
    [
        (transcript_row, transcripts, transcript_resampled, ("wer", "cer", "exact")),
        (summary_row, summaries, summary_resampled, ("rouge1", "rougeL", "length_ratio")),
    ],
)
def test_intervals_hold_the_score_and_are_wider_by_group(
    row: Row, score: Any, resampled: Any, watched: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(0)
    pairs = [
        ("one two three", "one two three" if rng.random() < 0.7 else "one too") for _ in range(60)
    ]
    pairs.sort(key=lambda pair: pair[1])
    kept = rows(row, pairs).astype(np.float32)  # as evaluation keeps them
    groups = np.repeat(np.arange(12), 5)
    found, clustered, again = (
        percentiles(resampled(None, kept, rng=np.random.default_rng(1), n=300, groups=given))
        for given in (None, groups, None)
    )
    scores = score(None, kept)
    assert set(found) == set(scores) - {"n"}
    for name in watched:
        low, high = found[name]
        assert low < scores[name] < high
        assert clustered[name][1] - clustered[name][0] > high - low
    assert again == found


def test_no_rows_are_refused() -> None:
    for score, names in ((transcripts, TRANSCRIPT), (summaries, SUMMARY)):
        with pytest.raises(DataError, match="at least one row"):
            score(None, np.zeros((0, len(names))))


def test_matches_by_hand() -> None:
    heard = matches(["one", "two", "three"], ["one", "too", "three", "four"])
    assert heard == [True, False, True, False]
    assert matches("今天天气", "天天气") == [True, True, True]
    assert matches(["a"], []) == []
    assert matches([], ["a", "b"]) == [False, False]


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_matched_tokens_and_edits_make_up_the_answer(target: str, answer: str) -> None:
    right = matches(target, answer)
    assert len(right) == len(answer)
    row = named(transcript_row(" ".join(target), " ".join(answer), 1.0), TRANSCRIPT)
    assert sum(right) == len(answer) - row["substitutions"] - row["insertions"]
    assert matches(target, target) == [True] * len(target)


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("rapidfuzz", lambda: transcript_row("a", "a", 1.0)),
        ("rapidfuzz", lambda: matches(["a"], ["a"])),
        ("rouge_score", lambda: summary_row("a", "a", 1.0)),
    ],
)
def test_a_missing_package_says_how_to_get_it(
    package: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (text_metrics._package, text_metrics._rouge):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CapacityError, match=rf"{package}.*moodal\[report\]"):
        use()


def test_importing_it_loads_no_scoring_package() -> None:
    code = (
        "import sys, moodal.text_metrics;"
        "print([n for n in ('rapidfuzz', 'rouge_score', 'nltk', 'jiwer') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
