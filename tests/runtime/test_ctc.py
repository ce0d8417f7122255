"""Decoding and alignment against brute force over every path of tiny inputs."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.errors import RecordError
from moodal.runtime import ctc

LOG_HALF = float(np.log(0.5))


def normalised(scores: np.ndarray) -> np.ndarray:
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def chances(*rows: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, np.float32))


def by_text(frames: np.ndarray) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """Text -> (log probability, path) of all its paths."""
    n_frames, n_symbols = frames.shape
    found = defaultdict(list)
    for path in itertools.product(range(n_symbols), repeat=n_frames):
        worth = float(frames[np.arange(n_frames), list(path)].sum()) if n_frames else 0.0
        found[ctc.collapse(path)].append((worth, path))
    return found


def total(paths: list[tuple[float, tuple[int, ...]]]) -> float:
    return float(np.logaddexp.reduce([worth for worth, _ in paths]))


@st.composite
def heard(draw: st.DrawFn) -> np.ndarray:
    """(T, C) log probabilities, small enough for all C^T paths."""
    n_symbols = draw(st.integers(2, 4))
    n_frames = draw(st.integers(0, {2: 7, 3: 5, 4: 4}[n_symbols]))
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([0.3, 1.0, 2.0]))
    return normalised(np.random.default_rng(seed).normal(0, spread, (n_frames, n_symbols)))


@given(heard())
def test_the_probability_of_a_text_is_that_of_all_its_paths(frames: np.ndarray) -> None:
    for text, paths in by_text(frames).items():
        assert ctc.likelihood(frames, text) == pytest.approx(total(paths), abs=1e-9)


@given(heard())
def test_all_texts_together_are_certain(frames: np.ndarray) -> None:
    together = np.logaddexp.reduce([ctc.likelihood(frames, text) for text in by_text(frames)])
    assert together == pytest.approx(0.0, abs=1e-9)


@given(heard())
def test_a_wide_beam_finds_the_most_probable_text(frames: np.ndarray) -> None:
    worth = {text: total(paths) for text, paths in by_text(frames).items()}
    found = ctc.prefix_beam(frames, width=1000)
    # What is pruned of a frame is less than ctc.LEAST of it, so nearly as probable will do.
    assert np.exp(found.log_probability) > np.exp(max(worth.values())) - 2e-3
    assert found.log_probability == pytest.approx(worth[found.symbols], abs=1e-9)


@given(heard())
def test_alignment_is_the_most_probable_path(frames: np.ndarray) -> None:
    for text, paths in by_text(frames).items():
        first, last = ctc.align(frames, text)
        named = np.zeros(len(frames), int)
        for symbol, begin, end in zip(text, first, last, strict=True):
            assert begin <= end
            named[begin : end + 1] = symbol
        assert ctc.collapse(named.tolist()) == text
        assert frames[np.arange(len(frames)), named].sum() == pytest.approx(max(paths)[0])


@given(heard())
def test_greedy_is_the_text_of_the_most_probable_path(frames: np.ndarray) -> None:
    everything = [pair for paths in by_text(frames).values() for pair in paths]
    found = ctc.greedy(frames)
    assert found.symbols == ctc.collapse(max(everything)[1])
    assert (found.first, found.last) == ctc.align(frames, found.symbols)


@given(heard(), st.integers(1, 5))
def test_a_language_model_of_no_weight_changes_nothing(frames: np.ndarray, width: int) -> None:
    def unwilling(before: tuple[int, ...], symbol: int) -> float:
        return -np.inf

    plain = ctc.prefix_beam(frames, width=width)
    assert ctc.prefix_beam(frames, width=width, language=unwilling, weight=0.0) == plain


@given(heard(), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([-0.5, 0.0, 1.0]))
def test_language_and_bonus_add_to_the_sound(
    frames: np.ndarray, weight: float, bonus: float
) -> None:
    def rising(before: tuple[int, ...], symbol: int) -> float:
        """It likes symbols that follow the one before, and texts of even length."""
        if symbol == ctc.BLANK:
            return 0.0 if len(before) % 2 == 0 else -1.0
        return 0.0 if symbol == (before[-1] if before else 0) + 1 else -1.0

    def usual(text: tuple[int, ...]) -> float:
        steps = [rising(text[:i], symbol) for i, symbol in enumerate((*text, ctc.BLANK))]
        return weight * sum(steps) + bonus * len(text)

    worth = {text: total(paths) + usual(text) for text, paths in by_text(frames).items()}
    found = ctc.prefix_beam(frames, width=1000, language=rising, weight=weight, bonus=bonus)
    assert worth[found.symbols] == pytest.approx(max(worth.values()), abs=0.01)


def test_the_beam_beats_the_best_path_by_hand() -> None:
    # Graves 2012, figure 7.5: the best path is two blanks (0.36), the best text is A (0.64).
    frames = chances([0.6, 0.4], [0.6, 0.4])
    assert ctc.greedy(frames).symbols == ()
    found = ctc.prefix_beam(frames)
    assert found.symbols == (1,)
    assert np.exp(found.log_probability) == pytest.approx(0.64)


def test_a_beam_of_one_still_answers() -> None:
    frames = chances([0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.1, 0.0, 0.9])
    assert ctc.prefix_beam(frames, width=1).symbols == (1, 2)


def test_repeats_collapse_unless_a_blank_parts_them() -> None:
    assert ctc.collapse([0, 1, 1, 0, 1, 2, 2, 0]) == (1, 1, 2)
    assert ctc.collapse([]) == ()


def test_frames_and_confidence_by_hand() -> None:
    frames = chances(
        [0.9, 0.1, 0.0],
        [0.2, 0.8, 0.0],
        [0.4, 0.6, 0.0],
        [0.4, 0.0, 0.6],
        [0.0, 0.0, 1.0],
    )
    found = ctc.path(frames, (1, 2))
    assert (found.first, found.last) == ((1, 3), (2, 4))
    assert found.confidence == pytest.approx((0.8, 1.0))


def test_a_text_needs_a_frame_a_symbol_and_one_between_equals() -> None:
    assert ctc.frames_needed(()) == 0
    assert ctc.frames_needed((1, 2, 3)) == 3
    assert ctc.frames_needed((1, 1, 2, 2, 2)) == 8


@given(heard(), st.lists(st.integers(1, 2), max_size=6))
@settings(max_examples=50)
def test_it_aligns_whatever_fits_and_refuses_the_rest(frames: np.ndarray, text: list[int]) -> None:
    text = [min(symbol, frames.shape[1] - 1) for symbol in text]
    if ctc.frames_needed(text) <= len(frames):
        assert len(ctc.align(frames, text)[0]) == len(text)
    else:
        assert ctc.likelihood(frames, text) == -np.inf
        with pytest.raises(RecordError, match=f"needs {ctc.frames_needed(text)} frames"):
            ctc.align(frames, text)


def test_words_by_hand() -> None:
    labels = ("", " ", "h", "i", "你", "好")
    symbols = (1, 2, 3, 1, 1, 4, 5, 2, 3)  # " hi  你好hi"
    frames = tuple(range(len(symbols)))
    sure = (0.1, 0.9, 0.8, 0.1, 0.1, 0.7, 0.6, 1.0, 0.5)
    said = ctc.words(labels, ctc.Path(symbols, 0.0, frames, frames, sure), seconds_per_frame=0.5)
    assert [token.text for token in said] == ["hi", "你", "好", "hi"]
    assert [token.confidence for token in said] == pytest.approx([0.72, 0.7, 0.6, 0.5])
    assert [(token.start, token.end) for token in said] == [
        (0.5, 1.5),
        (2.5, 3.0),
        (3.0, 3.5),
        (3.5, 4.5),
    ]


def test_silence_has_no_words() -> None:
    for decode in (ctc.greedy, ctc.prefix_beam):
        for frames in (chances([1.0, 0.0]), np.zeros((0, 3), np.float32)):
            found = decode(frames)
            assert found == ctc.Path((), 0.0, (), (), ())
            assert ctc.words(("", "a", "b"), found, seconds_per_frame=0.04) == ()


def test_impossible_frames_break_nothing() -> None:
    frames = chances([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert ctc.greedy(frames).symbols == ctc.prefix_beam(frames).symbols == (1, 1)
    assert ctc.likelihood(frames, (2,)) == -np.inf


def test_a_long_text_is_heard_whole() -> None:
    rng = np.random.default_rng(0)
    frames = np.full((600, 4), -9.0)
    frames[np.arange(600), np.resize([1, 0, 2, 0, 3, 0], 600)] = 0.0
    found = ctc.prefix_beam(
        normalised(frames + 0.1 * rng.random(frames.shape)),
        width=4,
        language=lambda before, symbol: LOG_HALF,
        weight=1.0,
        bonus=1.0,
    )
    assert found.symbols == tuple(np.resize([1, 2, 3], 300))
