"""Text to symbols and back: what every fitted set of symbols keeps to."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.errors import ConfigError, DataError, ModelError
from moodal.preprocess.symbols import FIRST, START, UNKNOWN, Symbols, clean, fit, parse
from moodal.preprocess.text import HAN

TEXTS = [
    "采用修正的Rodrigues参数(MRP),建立了数学模型,数学模型的Rodrigues参数.",
    "the mathematical model of the model, 123 and 12.5 % of the parameters",
    "中文 and English: the model建立了3种模型 of the parameters",
]
SYMBOLS = fit(TEXTS * 2, size=400)
CHARACTERS = sorted({c for text in TEXTS for c in text})


@given(st.text(st.sampled_from(CHARACTERS), max_size=60))
def test_a_text_of_known_characters_is_read_back(text: str) -> None:
    numbers = SYMBOLS.encode(text)
    assert numbers.dtype == np.int32
    assert (numbers >= FIRST).all()
    assert SYMBOLS.join(SYMBOLS.pieces[n] for n in numbers) == clean(text)


@given(st.text(max_size=60) | st.text(st.sampled_from([*CHARACTERS, "靐", "q", "😀"]), max_size=60))
def test_surfaces_are_the_clean_text_whatever_is_known(text: str) -> None:
    surfaces, numbers = SYMBOLS.split(text), SYMBOLS.encode(text)
    assert "".join(surfaces) == clean(text) == SYMBOLS.join(surfaces)
    assert len(surfaces) == len(numbers)
    assert all(surfaces)
    for surface, number in zip(surfaces, numbers, strict=True):
        if number == UNKNOWN:
            assert len(surface) == 1
        else:
            assert SYMBOLS.pieces[number].strip() == surface.strip()


def test_unknown_characters_keep_their_surface_one_each() -> None:
    assert SYMBOLS.split("靐靐q😀的") == ["靐", "靐", "q", "😀", "的"]
    assert SYMBOLS.encode("靐靐q😀的")[:4].tolist() == [UNKNOWN] * 4


def test_a_han_character_is_a_piece_alone() -> None:
    han = re.compile(f"[{HAN}]")
    held = [piece for piece in SYMBOLS.pieces if han.search(piece)]
    assert held
    assert all(len(piece) == 1 for piece in held)
    assert any(len(piece) > 2 for piece in SYMBOLS.pieces)  # runs of letters are learned
    assert set("".join(SYMBOLS.pieces[FIRST:])) <= set(CHARACTERS)


def test_a_word_has_one_number_at_the_beginning_and_behind_a_space() -> None:
    first, second = SYMBOLS.encode("the the")
    assert first == second
    assert SYMBOLS.split("the the") == ["the", " the"]


def test_the_same_texts_give_the_same_bytes_and_numbers(tmp_path: Path) -> None:
    again = fit(iter(TEXTS * 2), size=400)
    assert again == SYMBOLS
    SYMBOLS.save(tmp_path / "symbols.model")
    read = parse((tmp_path / "symbols.model").read_bytes())
    assert read == SYMBOLS
    assert read.encode(TEXTS[0]).tolist() == SYMBOLS.encode(TEXTS[0]).tolist()


@pytest.mark.parametrize("size", [16, 20, 40, 10_000])
@pytest.mark.parametrize("texts", [TEXTS, ["a"], ["中文中文"], ["x" * 5000]])
def test_size_is_an_upper_bound_and_never_an_error(texts: list[str], size: int) -> None:
    symbols = fit(texts, size=size)
    assert FIRST < len(symbols) <= size
    assert len(set(symbols.pieces[START + 2 :])) == len(symbols) - FIRST
    assert (symbols.encode(texts[0]) != UNKNOWN).any()


def test_a_character_that_stands_once_is_left_unknown() -> None:
    symbols = fit(["好天气好天气奇", "天气好"], size=100)
    assert symbols.encode("奇").tolist() == [UNKNOWN]
    assert (symbols.encode("好天气") != UNKNOWN).all()


def test_long_texts_are_learned_from() -> None:
    assert " needle" in fit(["hay " * 4000 + "needle needle"], size=200).pieces


@pytest.mark.parametrize("texts", [[], [""], [" ", "\x00\u200b"]])
def test_without_text_there_is_nothing_to_learn(texts: list[str]) -> None:
    with pytest.raises(DataError, match="give texts"):
        fit(texts, size=100)


def test_too_small_a_size_is_said() -> None:
    with pytest.raises(ConfigError, match="16 or more"):
        fit(TEXTS, size=15)


@pytest.mark.parametrize("content", [b"", b"abc", SYMBOLS.model[:-20], SYMBOLS.model[20:]])
def test_a_damaged_model_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"here\.model"):
        parse(content, name="here.model")


def test_nothing_is_written_while_learning(capfd: pytest.CaptureFixture[str]) -> None:
    parse(fit(TEXTS, size=100).model)
    with pytest.raises(ModelError):
        parse(b"")
    assert capfd.readouterr() == ("", "")


def test_what_cleaning_does() -> None:
    assert clean(" a\t\tb\u200b\x07c▁\u3000d\ud800 ") == "a b c_ d"
    assert Symbols(b"", ()).join([" a", " b"]) == "a b"
