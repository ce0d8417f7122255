"""Pieces: which are kept, in what order a position lists them, and that files bring them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.config import Text
from moodal.errors import DataError, ModelError, RecordError
from moodal.preprocess import vocabulary
from moodal.preprocess.vocabulary import PADDING, UNKNOWN, Vocabulary

WORDS = Text(min_count=1, word_ngrams=1, char_ngrams=0, pieces=2)
TEXTS = ["not good", "not bad", "good", "很好吃", "#happy days"]
RICH = vocabulary.fit(TEXTS, Text(min_count=1, char_ngrams=3))


def spelt(known: Vocabulary, row: np.ndarray) -> list[str]:
    """The pieces behind a row's numbers, padding left out."""
    return ["?" if n == UNKNOWN else known.pieces[n - 2] for n in row if n != PADDING]


def test_pieces_are_ordered_by_how_many_texts_hold_them_then_by_name() -> None:
    known = vocabulary.fit(["b a", "b a", "b c c c"], WORDS)
    assert known.pieces == ("b", "a", "c")
    assert len(known) == 5  # and the padding and the unknown
    assert vocabulary.fit(["q z y x w v u"], WORDS).pieces == ("q", "u", "v", "w", "x", "y", "z")


def test_rare_pieces_and_those_past_the_limit_are_dropped() -> None:
    texts = ["b a", "b a", "b c"]
    assert vocabulary.fit(texts, Text(**{**dict(WORDS), "min_count": 2})).pieces == ("b", "a")
    assert vocabulary.fit(texts, Text(**{**dict(WORDS), "vocabulary": 1})).pieces == ("b",)


def test_a_position_lists_its_word_then_runs_then_characters() -> None:
    row = RICH.encode("not good")[1]
    assert spelt(RICH, row) == ["good", "not good", " <go", " goo", " ood", " od>"]


def test_longer_runs_and_longer_ngrams_come_first() -> None:
    known = vocabulary.fit(["so not bad"], Text(min_count=1, word_ngrams=3, char_ngrams=4))
    assert spelt(known, known.encode("so not bad")[2]) == [
        *("bad", "so not bad", "not bad", " <bad", " bad>", " <ba", " bad", " ad>")
    ]


def test_what_does_not_fit_is_cut_from_the_end() -> None:
    narrow = Vocabulary(RICH.pieces, Text(pieces=3))
    assert spelt(narrow, narrow.encode("not good")[1]) == ["good", "not good", " <go"]


def test_an_unknown_word_still_means_its_characters() -> None:
    assert spelt(RICH, RICH.encode("goods")[0]) == [" <go", " goo", " ood"]
    assert spelt(RICH, RICH.encode("难吃")[0])[-1] == " 吃"


def test_an_unknown_hashtag_still_means_its_word() -> None:
    known = vocabulary.fit(["good", "good"], Text(char_ngrams=3))
    assert " <go" in spelt(known, known.encode("#good")[0])


def test_an_emoji_means_the_same_in_every_skin_tone() -> None:
    known = vocabulary.fit(["👍", "ok"], Text(min_count=1))
    assert spelt(known, known.encode("👍🏽")[0]) == [" 👍"]


def test_a_position_without_a_known_piece_is_unknown() -> None:
    assert RICH.encode("zzz qqq").tolist() == [[UNKNOWN] + [PADDING] * 15] * 2


def test_words_stand_where_their_numbers_stand() -> None:
    text = "Not GOOD 很好吃 zzz"
    assert len(RICH.words(text)) == len(RICH.encode(text))
    assert RICH.words(text)[:2] == ["not", "good"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["not", "good", "bad", "很好", "days", "x"]), min_size=1))
def test_a_text_is_encoded_alike_however_often_it_is_seen(words: list[str]) -> None:
    text = " ".join(words)
    fresh = Vocabulary(RICH.pieces, RICH.settings)
    rows = fresh.encode(text)
    assert rows.dtype == np.int32
    assert rows.shape == (len(fresh.words(text)), RICH.settings.pieces)
    assert np.array_equal(rows, RICH.encode(text))
    assert (rows[:, 0] > PADDING).all()
    assert (np.diff((rows == PADDING).astype(int), axis=1) >= 0).all()  # padding to the right
    assert rows.max() < len(fresh)


def test_remembered_words_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "REMEMBERED", 10)
    known = Vocabulary(RICH.pieces, RICH.settings)
    rows = [known.encode(f"good w{n}").tolist() for n in range(50)]
    assert len(known._words) <= 10
    assert rows[0][0] == rows[-1][0]


def test_memory_is_bounded_and_frequent_pieces_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "COUNTED", 100)
    texts = (f"good w{n} v{n}" for n in range(1000))
    pieces = vocabulary.fit(texts, WORDS).pieces
    assert pieces[0] == "good"
    assert len(pieces) <= 100


def test_fit_reads_a_stream_once_and_passes_over_empty_texts() -> None:
    stream = iter(["good", "", " \u200b", "good bad"])
    assert vocabulary.fit(stream, WORDS).pieces == ("good", "bad")


def test_nothing_to_keep_is_an_error() -> None:
    with pytest.raises(DataError, match="min_count"):
        vocabulary.fit(["a", "b"], Text(min_count=2))


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(RecordError, match="empty"):
        RICH.encode("  ")


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.txt"
    odd = vocabulary.fit([*TEXTS, "a\u2028b \x85 \ud83d x\x1cy"], Text(min_count=1))
    odd.save(path)
    again = vocabulary.load(path, odd.settings)
    assert again == odd
    assert np.array_equal(again.encode("not good 很好吃"), odd.encode("not good 很好吃"))
    first = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"a", b"a\nb", b"a\na\n", b"a\n\nb\n", b"\xff\n"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"vocabulary\.txt"):
        vocabulary.load(path, WORDS)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.txt"):
        vocabulary.load(tmp_path / "absent.txt", WORDS)


def test_the_share_of_known_words_counts_words_alone() -> None:
    known = vocabulary.fit(["good food !", "很好"], Text(min_count=1, char_ngrams=3))
    texts = ("good food", "good foot !", "!", "плохо")
    assert [known.known_share(known.encode(text)) for text in texts] == [1.0, 0.5, 1.0, 0.0]
