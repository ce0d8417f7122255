"""What a text without an answer is made into."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moodal.preprocess.symbols import FIRST
from moodal.training.denoise import GAP, LONGEST, SHORTEST, SHOWN, Symbols, ends, hide

STOP = 99
TEXTS = st.lists(st.sampled_from([*range(FIRST, FIRST + 9), STOP]), min_size=1, max_size=120)


def made(symbols: list[int] | Symbols, seed: int = 0) -> tuple[Symbols, Symbols]:
    numbers = np.array(symbols, np.int32)
    return hide(numbers, numbers == STOP, np.random.default_rng(seed))


@given(TEXTS, st.integers(0, 1000))
def test_source_and_target_are_the_text_again(text: list[int], seed: int) -> None:
    source, target = made(text, seed)
    assert source.dtype == target.dtype == np.int32
    assert 1 <= len(target) <= LONGEST
    if GAP in source:
        (gap,) = np.flatnonzero(source == GAP)
        assert [*source[:gap], *target, *source[gap + 1 :]] == text
    else:
        assert source.tolist() == text
        assert any(text[i : i + len(target)] == target.tolist() for i in range(len(text)))


@given(TEXTS, st.integers(0, 1000))
@example([FIRST] * (LONGEST + 10), 0)
def test_a_clause_is_said_from_stop_to_stop(text: list[int], seed: int) -> None:
    _, target = made(text, seed)
    clauses = " ".join(map(str, text)).split(str(STOP))
    sizes = {clause.strip(): len(clause.split()) for clause in clauses}
    if any(SHORTEST <= size <= LONGEST for size in sizes.values()):
        assert sizes[" ".join(map(str, target))] in range(SHORTEST, LONGEST + 1)
    else:
        assert len(target) == min((len(text) + 1) // 2, LONGEST)  # a stretch


def test_the_same_generator_gives_the_same_and_another_another() -> None:
    text = np.random.default_rng(0).integers(FIRST, 90, 300)
    text[::15] = STOP
    answers = [made(text, seed) for seed in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(answers[0], answers[1], strict=True))
    assert not np.array_equal(answers[0][1], answers[2][1])


def test_the_clause_that_stands_elsewhere_too_is_said_most_often() -> None:
    like, unlike = list(range(10, 20)), list(range(30, 40))
    text = [*like, STOP, *unlike, STOP, 50, 51, *like, 52, *range(60, 99)]  # the last is too long
    said = [made(text, seed)[1].tolist() for seed in range(300)]
    # By hand: 9 pairs found again of 9, so exp(16 * 9 / 19) = 1958 against 1.
    assert said.count(like) > 290


@pytest.mark.parametrize("text", [[*range(10, 30), STOP, *range(40, 60)], list(range(10, 13))])
def test_what_is_said_stays_in_sight_as_often_as_declared(text: list[int]) -> None:
    shown = [GAP not in made(text, seed)[0] for seed in range(600)]
    assert abs(np.mean(shown) - SHOWN) < 0.08


def test_a_stop_ends_a_clause_unless_it_stands_in_a_number() -> None:
    surfaces = ["中", "。", "1", "2", ".", "5", "%,", " and", " so", ".", "3", ",", "好", ".", "!"]
    told = [place for place, end in enumerate(ends(surfaces)) if end]
    assert told == [1, 6, 9, 11, 13, 14]
    assert ends([]).tolist() == []
    assert ends(["3", "."]).tolist() == [False, True]
