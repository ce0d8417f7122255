"""Frames to words and symbols to a text: by hand, with numbers anyone can follow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moodal.config import Decode
from moodal.preprocess.symbols import END, PADDING, START, UNKNOWN
from moodal.runtime import sequences
from moodal.runtime.sequences import MOST_FRAMES, PAUSE, Hearing, Writing, heard, said
from moodal.types import Said, Token

Array = NDArray[Any]
GREEDY, BEAM = Decode(beam=1, min_length=0), Decode(beam=4, min_length=0)
LETTERS = ("", " ", "a", "b", "好", "天")


def frames(path: str, *, sure: float = 0.9) -> Array:
    """(T, 6) logs: one symbol a character of `path`, "-" being the blank."""
    codes = [0 if c == "-" else LETTERS.index(c) for c in path]
    chances = np.full((len(codes), len(LETTERS)), (1 - sure) / (len(LETTERS) - 1))
    chances[np.arange(len(codes)), codes] = sure
    return np.log(chances)


# Speech


@pytest.mark.parametrize("settings", [GREEDY, BEAM])
def test_what_is_heard_by_hand(settings: Decode) -> None:
    found = heard(frames("-aab-- b-"), LETTERS, Hearing(settings, seconds_per_frame=0.5))
    assert found.text == "ab b"
    assert [t.text for t in found.tokens] == ["ab", "b"]
    assert [(t.start, t.end) for t in found.tokens] == [(0.5, 2.0), (3.5, 4.0)]
    assert found.tokens[1].confidence == pytest.approx(0.9)
    assert 0.5 < found.tokens[0].confidence <= 0.9 + 1e-9, "two letters are no surer than one"
    assert found.confidence == pytest.approx(np.mean([t.confidence for t in found.tokens]))


def test_the_confidence_of_a_word_is_what_validation_made_of_it() -> None:
    slope, offset = 2.0, -1.0
    hearing = Hearing(GREEDY, confidence=(slope, offset))
    (token,) = heard(frames("-a-"), LETTERS, hearing).tokens
    odds = slope * np.log(0.9 / 0.1) + offset
    assert token.confidence == pytest.approx(1 / (1 + np.exp(-odds)))


@pytest.mark.parametrize("settings", [GREEDY, BEAM])
@pytest.mark.parametrize("path", ["", "---", " - "])
def test_silence_is_no_text_and_no_confidence(settings: Decode, path: str) -> None:
    assert heard(frames(path), LETTERS, Hearing(settings)) == Said("", (), 0.0)


def test_chinese_is_written_without_spaces_and_each_character_is_a_word() -> None:
    found = heard(frames("好-天a"), LETTERS, Hearing(GREEDY))
    assert found.text == "好天a"
    assert [t.text for t in found.tokens] == ["好", "天", "a"]


def test_what_is_usual_is_heard_where_the_sound_leaves_it_open() -> None:
    logs = frames("a--")
    logs[2] = np.log([0.02, 0.02, 0.45, 0.47, 0.02, 0.02])  # a or b

    def usual(before: tuple[int, ...], code: int) -> float:
        return float(np.log(0.9 if code in (2, 0) else 0.05))

    beam = Decode(beam=4, language_weight=1.0)
    assert heard(logs, LETTERS, Hearing(Decode(beam=4))).text == "ab"
    assert heard(logs, LETTERS, Hearing(beam, language=usual)).text == "aa"
    assert heard(logs, LETTERS, Hearing(Decode(beam=4, language_weight=0.0), 1.0, usual)).text == (
        "ab"
    )


def long(path: str, n_parts: int) -> tuple[Array, int]:
    """So many repeats of a path, and its length."""
    return frames(path * n_parts), len(path)


@pytest.mark.parametrize("settings", [GREEDY, BEAM])
def test_a_long_recording_is_cut_where_it_is_silent_and_times_go_on(settings: Decode) -> None:
    logs, n = long("-ab-  -ba--- -", 180)  # 2,520 frames
    assert len(logs) > 2 * MOST_FRAMES
    found = heard(logs, LETTERS, Hearing(settings, seconds_per_frame=0.1))
    assert found.text.split() == ["ab", "ba"] * 180
    assert found.text.count("  ") == 0
    starts = [t.start for t in found.tokens]
    by_hand = [0.1 * (n * part + first) for part in range(180) for first in (1, 7)]
    assert starts == pytest.approx(by_hand)
    ends = [t.end for t in found.tokens]
    assert ends == pytest.approx([start + 0.2 for start in by_hand])


def test_a_cut_is_made_in_the_longest_pause_of_the_second_half_not_within_a_word() -> None:
    # Each blank between two letters is as sure as those of the pauses.
    spoken = [*("a-b-" * ((MOST_FRAMES + 40) // 4))]
    spoken[100 : 100 + 2 * PAUSE] = "-" * 2 * PAUSE  # the longest, and in the first half
    pause = slice(MOST_FRAMES // 2 + 123, MOST_FRAMES // 2 + 123 + PAUSE)
    spoken[pause] = "-" * PAUSE
    logs = frames("".join(spoken))
    logs[-60:-50:2] = frames("-----", sure=0.999)
    parts = list(sequences._parts(logs))
    (_, cut) = [first for first, _ in parts]
    assert pause.start < cut < pause.stop
    assert np.array_equal(np.concatenate([part for _, part in parts]), logs)
    assert all(len(part) <= MOST_FRAMES for _, part in parts)


def test_a_long_recording_of_chinese_is_joined_without_spaces() -> None:
    logs, _ = long("好--天--", 300)
    assert heard(logs, LETTERS, Hearing(GREEDY)).text == "好天" * 300


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("a", "b", "a b"),
        ("好", "天", "好天"),
        ("a", "天", "a天"),
        ("好", "b", "好b"),
        ("", "b", "b"),
        ("a", "", "a"),
        ("", "", ""),
    ],
)
def test_two_parts_are_joined_by_a_space_but_for_chinese(
    before: str, after: str, joined: str
) -> None:
    assert sequences._joined(before, after) == joined


# Texts


PIECES = ("", "\ufffd", "", "", " good", " day", "s", "好", "天", "!")


def told(*symbols: int, chances: float = 0.8, attended: Any = None, width: int = 4) -> Any:
    """A step that says these symbols one after the other, whatever it is asked."""
    script = [*symbols, END]

    def step(previous: Array, state: Array, rows: Array) -> tuple[Array, Array, Array]:
        n = len(previous)
        places = state[:, 0].astype(int)
        logs = np.full((n, len(PIECES)), (1 - chances) / (len(PIECES) - 1))
        attention = np.full((n, width), 0.01)
        for row, place in enumerate(places):
            logs[row, script[min(place, len(script) - 1)]] = chances
            if attended is not None and place < len(attended):
                attention[row, attended[place]] = 0.9
        return np.log(logs), state + 1, attention

    return step


def say(
    *symbols: int, surfaces: tuple[str, ...] = (), attended: Any = None, settings: Decode = GREEDY
) -> Said:
    source = np.array([[UNKNOWN, 4, UNKNOWN, PADDING]])
    step = told(*symbols, attended=attended)
    (found,) = said(step, np.zeros((1, 1)), source, [surfaces], Writing(settings, PIECES))
    return found


@pytest.mark.parametrize("settings", [GREEDY, BEAM])
def test_symbols_become_words_by_hand(settings: Decode) -> None:
    found = say(4, 5, 6, 9, settings=settings)
    assert found.text == "good days!"
    assert [t.text for t in found.tokens] == ["good", "days!"]
    assert found.tokens[1].confidence == pytest.approx(0.8)
    assert found.confidence == pytest.approx(0.8)
    assert all((t.start, t.end) == (None, None) for t in found.tokens), "nothing was heard"


def test_a_word_is_as_sure_as_its_least_sure_symbol() -> None:
    def step(previous: Array, state: Array, rows: Array) -> tuple[Array, Array, Array]:
        chances = np.full((1, len(PIECES)), 1e-3)
        symbol, chance = {START: (5, 0.9), 5: (6, 0.6)}.get(int(previous[0]), (END, 0.99))
        chances[0, symbol] = chance
        return np.log(chances), state, np.ones((1, 1))

    (found,) = said(step, np.zeros((1, 1)), np.zeros((1, 1), int), [()], Writing(GREEDY, PIECES))
    assert found.tokens == (Token("days", pytest.approx(0.6)),)


def test_chinese_characters_are_words_of_their_own() -> None:
    found = say(7, 8, 4, 7)
    assert found.text == "好天 good好"
    assert [t.text for t in found.tokens] == ["好", "天", "good", "好"]


def test_a_symbol_that_is_not_known_is_what_stands_where_it_was_looked_at() -> None:
    surfaces = ("Zürich", " good", " Ω")
    assert say(UNKNOWN, 4, surfaces=surfaces, attended=[0, 1]).text == "Zürich good"
    assert say(4, UNKNOWN, surfaces=surfaces, attended=[1, 2]).text == "good Ω"
    # It is meant to be one of those that are not known, wherever it looked a little more.
    assert say(UNKNOWN, surfaces=surfaces, attended=[1]).text in {"Zürich", "Ω"}


def test_a_symbol_that_is_not_known_of_no_text_is_the_sign_for_it() -> None:
    assert say(UNKNOWN, 4, attended=[0, 1]).text == "\ufffd good"


@pytest.mark.parametrize("settings", [GREEDY, BEAM])
def test_nothing_said_is_no_text_and_no_confidence(settings: Decode) -> None:
    assert say(settings=settings) == Said("", (), 0.0)


def test_the_settings_bound_the_length() -> None:
    most = Decode(beam=1, min_length=0, max_length=2, no_repeat=0)
    assert say(4, 4, 4, 4, settings=most).text == "good good"
    least = Decode(beam=1, min_length=3, max_length=5, no_repeat=0)
    assert say(4).text == "good"
    assert len(say(4, settings=least).text) > len("good"), "what follows is the likeliest but END"
    no_repeat = Decode(beam=1, min_length=0, max_length=9, no_repeat=2)
    words = say(4, 5, 4, 5, 4, 5, settings=no_repeat).text.split()
    pairs = list(itertools.pairwise(words))
    assert len(set(pairs)) == len(pairs)


def test_several_records_are_each_answered_with_their_own_surfaces() -> None:
    source = np.array([[UNKNOWN, PADDING], [UNKNOWN, PADDING]])
    step = told(UNKNOWN, attended=[0], width=2)
    how = Writing(BEAM, PIECES)
    found = said(step, np.zeros((2, 1)), source, [("Ä",), ("Ö",)], how)
    assert [f.text for f in found] == ["Ä", "Ö"]
