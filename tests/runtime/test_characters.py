"""The language model: probabilities that add up, a case by hand, bytes that come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.errors import ConfigError, DataError, ModelError
from moodal.runtime import ctc
from moodal.runtime.characters import EDGE, MAX_ORDER, UNKNOWN, CharacterModel

TEXTS = ["one two three", "two one", "三 二 一", "three three two", "two"]
ALPHABET = st.text("onetwhr 三二x\n")


def everything(model: CharacterModel) -> list[str]:
    return [*model.characters, EDGE, UNKNOWN]


def probability(model: CharacterModel, context: str, character: str) -> float:
    return float(np.exp(model.log_probability(context, character)))


@given(
    st.lists(st.text("abc \ud800\ufffd🙂", max_size=12), min_size=1, max_size=6),
    st.text("abcd ", max_size=8),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 30),
)
def test_they_add_up_to_one_after_any_context(
    texts: list[str], context: str, order: int, min_count: int, most: int
) -> None:
    model = CharacterModel.fit(["a", *texts], order=order, min_count=min_count, max_ngrams=most)
    together = sum(probability(model, context, character) for character in everything(model))
    assert together == pytest.approx(1.0, abs=1e-9)


def test_witten_bell_by_hand() -> None:
    # "ab" twice: after the edge a twice, after a b twice, after b the edge twice.
    model = CharacterModel.fit(["ab", "ab"], order=2, min_count=1)
    # Order 1: 2 of each of a, b, edge; three kinds; uniform over a, b, edge and unknown.
    single = (2 + 3 * 0.25) / (6 + 3)
    unknown = 3 * 0.25 / (6 + 3)
    # Order 2: one kind followed, twice.
    assert probability(model, "a", "b") == pytest.approx((2 + 1 * single) / 3)
    assert probability(model, "a", "a") == pytest.approx(single / 3)
    assert probability(model, "", "a") == pytest.approx((2 + 1 * single) / 3)
    assert probability(model, "ab", EDGE) == pytest.approx((2 + 1 * single) / 3)
    assert probability(model, "a", "?") == pytest.approx(unknown / 3)
    assert probability(model, "?", "a") == pytest.approx(single), "an unknown context says nothing"


def test_what_is_left_out_counts_for_the_shorter_context() -> None:
    # After a: b three times and c once; "ac" is left out.
    texts = ["ab", "ab", "ab", "ac"]
    model = CharacterModel.fit(texts, order=2, min_count=2)
    shorter = probability(CharacterModel.fit(texts, order=1), "", "c")
    assert probability(model, "a", "c") == pytest.approx((2 + 1) * shorter / (4 + 2))


def test_it_prefers_what_it_has_read() -> None:
    model = CharacterModel.fit(TEXTS, order=4)
    assert model.log_probability("thre", "e") > model.log_probability("thre", "o")
    assert model.log_probability("two", EDGE) > model.log_probability("tw", EDGE)
    assert model.log_probability("", "t") > model.log_probability("one tw", "t")


def test_it_keeps_the_most_frequent_ngrams_and_every_character() -> None:
    model = CharacterModel.fit(TEXTS * 5, order=5, max_ngrams=25)
    n_ngrams = sum(len(followers.counts) for followers in model.contexts.values())
    assert n_ngrams == 25
    assert model.contexts["tw"].counts == {"o": 20}, "of four twos in TEXTS"
    tiny = CharacterModel.fit(TEXTS, order=5, max_ngrams=0)
    assert tiny.characters == model.characters == set("".join(TEXTS))
    assert probability(tiny, "", "三") > probability(tiny, "", "x")


@given(ALPHABET, st.sampled_from([*"onetwhr 三x", EDGE]))
def test_bytes_give_the_same_model_back(context: str, character: str) -> None:
    model = CharacterModel.fit(TEXTS, order=3, min_count=1)
    again = CharacterModel.parse(model.to_bytes())
    assert again == model
    assert again.to_bytes() == model.to_bytes()
    assert again.log_probability(context, character) == model.log_probability(context, character)


def test_the_order_of_the_texts_does_not_matter() -> None:
    assert CharacterModel.fit(TEXTS) == CharacterModel.fit(TEXTS[::-1])


def test_by_codes_it_says_the_same() -> None:
    model = CharacterModel.fit(TEXTS, order=3, min_count=1)
    labels = ("", *sorted(model.characters))
    asked = model.over(labels)
    for text in TEXTS:
        codes = tuple(labels.index(character) for character in text)
        for place, code in enumerate((*codes, ctc.BLANK)):
            wanted = model.log_probability(text[:place], labels[code] if code else EDGE)
            assert asked(codes[:place], code) == wanted


def test_it_mends_what_was_misheard() -> None:
    labels = ("", *" eghinorstuvwx")
    model = CharacterModel.fit(["seven", "eight", "six", "one two"] * 3)
    frames = np.full((11, len(labels)), np.log(0.01))
    for t, character in enumerate("sexen"):
        frames[2 * t, labels.index(character)] = np.log(0.5)
        frames[2 * t + 1, 0] = np.log(0.9)
    frames[4, labels.index("v")] = np.log(0.3)
    frames -= np.logaddexp.reduce(frames, axis=1, keepdims=True)

    def said(weight: float) -> str:
        found = ctc.prefix_beam(frames, language=model.over(labels), weight=weight)
        return "".join(labels[symbol] for symbol in found.symbols)

    assert said(0.0) == "sexen"
    assert said(0.5) == "seven"


def test_empty_texts_are_refused() -> None:
    with pytest.raises(DataError, match="at least one character"):
        CharacterModel.fit(["", "  \n"])


def test_an_order_out_of_range_is_refused() -> None:
    assert MAX_ORDER < ctc.LOOK_BACK
    for order in (0, MAX_ORDER + 1):
        with pytest.raises(ConfigError, match=f"order={order}"):
            CharacterModel.fit(TEXTS, order=order)


@pytest.mark.parametrize(
    "damage",
    [
        lambda held: held.pop("order"),
        lambda held: held.update(order="5"),
        lambda held: held.update(contexts=[1]),
        lambda held: held["contexts"].update({"x": [0, {}]}),
        lambda held: held["contexts"].update({"x": [1, {"y": -3}]}),
        lambda held: held["contexts"].update({"x": {"y": 1}}),
    ],
)
def test_damaged_bytes_are_refused(damage: object) -> None:
    held = json.loads(CharacterModel.fit(TEXTS).to_bytes())
    damage(held)  # type: ignore[operator]
    with pytest.raises(ModelError, match="cannot be read"):
        CharacterModel.parse(json.dumps(held).encode())


def test_other_bytes_and_formats_are_refused() -> None:
    for data in (b"", b"\xff\xfe", b"[]", b"null"):
        with pytest.raises(ModelError, match="cannot be read"):
            CharacterModel.parse(data)
    with pytest.raises(ModelError, match="format 2"):
        CharacterModel.parse(b'{"format":2}')
