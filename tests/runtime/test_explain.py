"""Shapley values: a game worked by hand, the axioms that define them; words hidden by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.config import Text
from moodal.preprocess.batch import subsets
from moodal.preprocess.vocabulary import Vocabulary
from moodal.runtime.explain import hide_each, shapley, words_held
from moodal.types import MODALITIES, Subset

ALL: list[Subset] = [(), *subsets(MODALITIES)]
Game = dict[Subset, float]
games = st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=8).map(
    lambda worths: dict(zip(ALL, worths, strict=True))
)


def test_three_players_by_hand() -> None:
    worth: Game = {
        (): 10,
        ("text",): 40,
        ("image",): 16,
        ("audio",): 10,
        ("text", "image"): 52,
        ("text", "audio"): 46,
        ("image", "audio"): 28,
        ("text", "image", "audio"): 70,
    }
    # What each adds in the six orders of arrival:
    #         TIA TAI ITA IAT ATI AIT
    # text     30  30  36  42  36  42 = 216
    # image    12  24   6   6  24  18 =  90
    # audio    18   6  18  12   0   0 =  54
    shares = shapley(worth, MODALITIES)
    assert shares == pytest.approx({"text": 36.0, "image": 15.0, "audio": 9.0})


def test_one_player_has_the_whole_difference() -> None:
    assert shapley({(): 0.25, ("audio",): 0.75}, ("audio",)) == {"audio": 0.5}


def test_nobody_shares_nothing() -> None:
    assert shapley({(): 0.3}, ()) == {}


@given(games)
def test_shares_add_up_to_what_all_have_over_none(worth: Game) -> None:
    shares = shapley(worth, MODALITIES)
    assert sum(shares.values()) == pytest.approx(worth[MODALITIES] - worth[()], abs=1e-9)


@given(games)
def test_who_adds_nothing_gets_nothing(worth: Game) -> None:
    idle = {s: worth[tuple(m for m in s if m != "image")] for s in ALL}
    assert shapley(idle, MODALITIES)["image"] == pytest.approx(0.0, abs=1e-9)


@given(games)
def test_who_adds_the_same_gets_the_same(worth: Game) -> None:
    swap = {"text": "audio", "audio": "text", "image": "image"}

    def other(subset: Subset) -> Subset:
        return tuple(m for m in MODALITIES if m in {swap[m] for m in subset})

    alike = {s: worth[s] + worth[other(s)] for s in ALL}
    shares = shapley(alike, MODALITIES)
    assert shares["text"] == pytest.approx(shares["audio"], abs=1e-9)


@given(games, games)
def test_the_shares_of_two_games_add_up(one: Game, two: Game) -> None:
    both = {s: one[s] + two[s] for s in ALL}
    first, second = shapley(one, MODALITIES), shapley(two, MODALITIES)
    assert shapley(both, MODALITIES) == pytest.approx(
        {m: first[m] + second[m] for m in MODALITIES}, abs=1e-9
    )


# ---- hiding words ------------------------------------------------------------------------------


@pytest.fixture
def not_good() -> Vocabulary:
    settings = Text(word_ngrams=3, char_ngrams=3, pieces=5)
    return Vocabulary(("not", "good", "not good", " goo", "is not good", "day"), settings)


def test_a_piece_holds_one_word_or_a_run_of_them(not_good: Vocabulary) -> None:
    # The runs that end at a word come behind it, the longest first, then its n-grams.
    pieces = not_good.encode("is not good")
    assert pieces.tolist() == [[1, 0, 0, 0, 0], [2, 0, 0, 0, 0], [3, 6, 4, 5, 0]]
    assert words_held(pieces, not_good).tolist() == [[1] * 5, [1] * 5, [1, 3, 2, 1, 1]]


def test_hiding_a_word_hides_the_runs_that_hold_it(not_good: Vocabulary) -> None:
    pieces = not_good.encode("is not good day")
    x, mask = hide_each(pieces, words_held(pieces, not_good), np.arange(4))
    assert mask.tolist() == (~np.eye(4, dtype=bool)).tolist()
    good_without = {0: [3, 0, 4, 5, 0], 1: [3, 0, 0, 5, 0], 3: [3, 6, 4, 5, 0]}
    for hidden, left in good_without.items():
        assert x[hidden, 2].tolist() == left, f"word {hidden} hidden"
    assert x[:, 3].tolist() == [pieces[3].tolist()] * 4, "no run that ends there"


def test_a_position_of_runs_alone_becomes_an_unknown_word() -> None:
    known = Vocabulary(("no way",), Text(word_ngrams=2, char_ngrams=0, pieces=2))
    pieces = known.encode("no way")
    x, _ = hide_each(pieces, words_held(pieces, known), np.array([0]))
    assert pieces.tolist() == [[1, 0], [2, 0]]
    assert x[0, 1].tolist() == [1, 0]
