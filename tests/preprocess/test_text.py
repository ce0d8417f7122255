"""What tokens a text becomes, in Chinese and English, and that no text can make it slow."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moodal.config import Text
from moodal.errors import RecordError
from moodal.preprocess.text import MAX_CHARACTERS, MAX_WORD, normalise, tokenise

PLAIN = Text()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("ＡＢＣ　１２３！", "ABC 123!"),
        ("soooooo good", "sooo good"),
        ("哈哈哈哈哈哈", "哈哈哈"),
        ("😂😂😂😂😂 ❤️❤️❤️❤️❤️", "😂😂😂 ❤️❤️❤️"),
        ("it costs 1000000", "it costs 1000000"),
        ("Tom &amp; Jerry &lt;3 &#128512;", "Tom & Jerry <3 😀"),
        ("see https://t.co/aB?c=1&d=2 now", "see <url> now"),
        ("看http://t.cn/abc吧", "看<url>吧"),
        ("@bob_1 hi, me@mail.com", "<user> hi, me@mail.com"),
        ("回复@小明:好", "回复<user>:好"),
        ("a\x00b\x07c\u200bd\r\n\te\ud83d", "a b cd e"),
        ("I don’t “know”", 'I don\'t "know"'),
        ("great<br />film", "great film"),
    ],
)
def test_normalise_writes_one_spelling(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


@pytest.mark.parametrize(
    "kept", ["👍🏽", "👩‍👩‍👧", "❤️", "🇨🇳", "1️⃣", "™", "㊙️", ":-)", "^_^", "(╯°□°)╯"]
)
def test_emoji_and_emoticons_stay_as_they_are(kept: str) -> None:
    assert normalise(f"好 {kept} ok") == f"好 {kept} ok"


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("I don't and CAN'T", ["i", "do", "n't", "and", "ca", "n't"]),
        ("cannot cant", ["can", "not", "cant"]),
        ("it's what we've", ["it", "'s", "what", "we", "'ve"]),
        ("ok :-) :( :D ;P <3 ^_^ T_T >_< -_- D: o.O", "ok :-) :( :d ;p <3 ^_^ t_t >_< -_- d: o.o"),
        ("Saturday:/ at 12:30, i <30", "saturday :/ at 12:30 , i < 30"),
        ("orz 3.5% 1st mp3", "orz 3.5% 1st mp3"),
        ("#LoveIt #happy", "#loveit love it #happy"),
        ("[心][doge]x[1]", "[心] [doge] x [ 1 ]"),
        ("wow!!! what?! no... ok", "wow !!! what ?! no ... ok"),
        ("ok👍🏽👍❤️❤\ufe0e", "ok 👍🏽 👍 ❤ ❤"),
        ("<user> <url>", "<user> <url>"),
        ("如下:(一)", "如下 : ( 一 )"),
        ("почему Ünï", "почему ünï"),
    ],
)
def test_tokens(raw: str, tokens: str | list[str]) -> None:
    expected = tokens.split() if isinstance(tokens, str) else tokens
    assert tokenise(raw, PLAIN) == expected


def test_mixed_text_is_segmented_where_it_is_chinese() -> None:
    assert tokenise("这家酒店真的不错,nice服务!", PLAIN) == [
        *("这家", "酒店", "真的", "不错", ",", "nice", "服务", "!"),
    ]


def test_chinese_can_be_split_to_characters() -> None:
    assert tokenise("很好ok", Text(segment="characters")) == ["很", "好", "ok"]


def test_a_chinese_hashtag_gives_itself_and_its_words() -> None:
    assert tokenise("#天气真好#", PLAIN)[:3] == ["#天气真好", "天气", "真"]


def test_case_is_kept_on_request() -> None:
    assert tokenise("Good DON'T", Text(lowercase=False)) == ["Good", "DO", "N'T"]


def test_stop_words_go_on_request_but_negations_stay() -> None:
    without = Text(stop_words=True)
    assert tokenise("The film was not good", without) == ["film", "not", "good"]
    assert tokenise("这 不好", without) == tokenise("不好", without)


def test_a_text_of_stop_words_alone_keeps_them() -> None:
    assert tokenise("it was the", Text(stop_words=True)) == ["it", "was", "the"]


def test_stop_words_do_not_use_up_positions() -> None:
    assert tokenise("the good the bad", Text(stop_words=True, max_tokens=2)) == ["good", "bad"]


def test_the_tail_is_cut() -> None:
    assert tokenise("a b c d", Text(max_tokens=3)) == ["a", "b", "c"]


@pytest.mark.parametrize("empty", ["", " \n\t　", "\u200b\ufeff", "\x00", "\ufe0f"])
def test_a_text_without_content_is_refused(empty: str) -> None:
    with pytest.raises(RecordError, match="empty") as caught:
        tokenise(empty, PLAIN)
    assert caught.value.field == "text"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=100))
def test_clean_text_is_single_spaced_and_can_be_written(text: str) -> None:
    clean = normalise(text)
    assert "  " not in clean
    assert clean == clean.strip()
    clean.encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab'n t!?.:()<>3#@[]心好😂\u200d\ufe0f🏽1", min_size=1, max_size=80))
def test_tokens_lose_no_character_but_space(text: str) -> None:
    clean = normalise(text)
    assume(clean.strip("\ufe0f ") and "#" not in clean)  # a hashtag's words come twice
    tokens = tokenise(text, Text(max_tokens=200))
    assert "".join(tokens) == clean.replace(" ", "").replace("\ufe0f", "")
    assert all(token and not any(map(str.isspace, token)) for token in tokens)


@pytest.mark.parametrize(
    "unit",
    [
        *("a", "'", "n't", ":-", "[a", "<", "&#", "&#1", "@", "#aA", "1.", "1,2", "👩\u200d", "!?"),
        *("http://", "(", "-_", "^", "哈啊", "\u0301", "\ufdfa", "ab", "[心", "&amp", "T_", "www."),
        "ab" * 300 + "n't ",
    ],
)
def test_no_text_can_make_it_slow(unit: str) -> None:
    started = time.process_time()
    tokens = tokenise(unit * (1_000_000 // len(unit)), PLAIN)
    assert len(tokens) <= PLAIN.max_tokens
    assert max(map(len, tokens)) <= max(MAX_WORD + 1, MAX_CHARACTERS // 100)
    assert time.process_time() - started < 0.5


def test_english_does_not_pay_for_the_segmenter() -> None:
    code = (
        "import sys; from moodal.config import Text; from moodal.preprocess.text import tokenise\n"
        "tokenise('so good', Text()); assert 'rjieba' not in sys.modules\n"
        "tokenise('很好', Text()); assert 'rjieba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
