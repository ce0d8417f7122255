"""The search against all sequences there are, and what it promises of each answer."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.preprocess.symbols import END, PADDING, START, UNKNOWN
from moodal.runtime.beam import Beam, Floats, Hypothesis, Integers, Step, search

C = 7
SPOKEN = [UNKNOWN, 4, 5, 6]
SOURCE = np.array([[4, UNKNOWN, 5, UNKNOWN, PADDING]])


def table(seed: int) -> Floats:
    """(C, C, C): log P(third | first, second)."""
    scores = np.random.default_rng(seed).normal(size=(C, C, C)) * 2
    scores[..., [PADDING, START]] += 3  # likely, and never to be said
    logs: Floats = scores - np.log(np.exp(scores).sum(2, keepdims=True))
    return logs


def asked(tables: list[Floats]) -> Step:
    """Record b is told by tables[b]; the state (N, 1) is the symbol before the last."""

    def step(said: Integers, state: Floats, rows: Integers) -> tuple[Floats, Floats, Floats]:
        before = state[:, 0].astype(int)
        logs = np.stack([tables[r][b, s] for r, b, s in zip(rows, before, said, strict=True)])
        attention = np.tile([[0.3, 0.1, 0.25, 0.2, 0.15]], (len(said), 1))
        return logs, said[:, None].astype(float), attention

    return step


def found(tables: list[Floats], how: Beam) -> list[Hypothesis]:
    n = len(tables)
    state = np.full((n, 1), START, float)
    return search(asked(tables), state, np.repeat(SOURCE, n, 0), settings=how)


def total(logs: Floats, symbols: tuple[int, ...], *, ends: bool) -> float:
    """The sum over symbols, and END if it was said."""
    said = (START, START, *symbols, *([END] if ends else []))
    return float(sum(logs[a, b, c] for a, b, c in zip(said, said[1:], said[2:], strict=False)))


def penalty(n: int, alpha: float) -> float:
    return float(((5 + n) / 6) ** alpha)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int, alpha: float) -> None:
    logs, longest = table(seed), 3
    everything = [
        (total(logs, s, ends=n < longest) / penalty(n, alpha), s)
        for n in range(longest + 1)
        for s in product(SPOKEN, repeat=n)
    ]
    how = Beam(width=200, min_length=0, max_length=3, length_penalty=alpha, no_repeat=0)
    (best,) = found([logs], how)
    score, symbols = max(everything)
    assert best.symbols == symbols
    assert best.score == pytest.approx(score)


@pytest.mark.parametrize("seed", range(5))
def test_width_1_takes_the_likeliest_symbol_each_time(seed: int) -> None:
    logs, said = table(seed), [START, START]
    for _ in range(6):
        row = logs[said[-2], said[-1]].copy()
        row[[PADDING, START]] = -np.inf
        said.append(int(row.argmax()))
        if said[-1] == END:
            break
    (best,) = found([logs], Beam(width=1, min_length=0, max_length=6, no_repeat=0))
    assert [START, START, *best.symbols] == [s for s in said if s != END]


@pytest.mark.parametrize("width", [1, 3])
def test_a_batch_answers_as_if_alone(width: int) -> None:
    tables = [table(seed) for seed in range(9)]
    how = Beam(width=width, min_length=0, max_length=8, no_repeat=2)
    assert found(tables, how) == [found([one], how)[0] for one in tables]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 4),
    shortest=st.integers(0, 4),
    more=st.integers(1, 5),
    no_repeat=st.integers(0, 3),
)
def test_what_was_asked_of_an_answer_holds(
    seed: int, width: int, shortest: int, more: int, no_repeat: int
) -> None:
    logs = table(seed)
    longest = shortest + more
    (best,) = found([logs], Beam(width, shortest, longest, 0.6, no_repeat))
    n = len(best.symbols)
    runs = [best.symbols[i : i + no_repeat] for i in range(n - no_repeat + 1)] if no_repeat else []
    assert len(runs) == len(set(runs))
    # Four symbols, each but once, leave nothing to follow: such an answer ends as it is.
    assert n <= longest
    assert n >= min(shortest, len(SPOKEN)) or no_repeat
    assert set(best.symbols) <= set(SPOKEN)
    assert len(best.log_probabilities) == len(best.attended) == n
    chain = (START, START, *best.symbols)
    expected = [logs[a, b, c] for a, b, c in zip(chain, chain[1:], chain[2:], strict=False)]
    np.testing.assert_allclose(best.log_probabilities, expected)


def test_an_answer_ends_where_nothing_may_follow() -> None:
    (best,) = found([table(0)], Beam(width=2, min_length=20, max_length=30, no_repeat=1))
    assert sorted(best.symbols) == SPOKEN  # each once


def test_unknown_is_traced_to_a_position_that_holds_unknown() -> None:
    logs = np.full((C, C, C), -9.0)
    logs[START, START, UNKNOWN] = logs[START, UNKNOWN, 4] = logs[UNKNOWN, 4, END] = -0.1
    (best,) = found([logs], Beam(width=2))
    assert best.symbols == (UNKNOWN, 4)
    assert best.attended == (3, 0)  # 0.2 at 3 is more than 0.1 at 1; of all, 0 has the most


def test_a_done_record_takes_no_further_part() -> None:
    quick, slow = np.full((C, C, C), -9.0), np.full((C, C, C), -9.0)
    quick[..., END] = slow[..., 4] = -0.1
    seen: list[int] = []
    plain = asked([quick, slow])

    def step(said: Integers, state: Floats, rows: Integers) -> tuple[Floats, Floats, Floats]:
        seen.append(len(said))
        return plain(said, state, rows)

    how = Beam(width=1, min_length=0, max_length=4, no_repeat=0)
    ended, longest = search(step, np.full((2, 1), START, float), SOURCE[[0, 0]], settings=how)
    assert seen == [2, 1, 1, 1]
    assert (ended.symbols, longest.symbols) == ((), (4,) * 4)
