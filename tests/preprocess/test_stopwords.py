"""The stop words never take away what turns or strengthens a feeling."""

from __future__ import annotations

import pytest

from moodal.preprocess.stopwords import stop_words

NEGATIONS = """
no not never n't nor neither none nobody nothing nowhere without hardly scarcely barely rarely
seldom cannot cant dont doesnt didnt wont isnt wasnt arent lack lacks few little less least
against but however except unlike off
不 没 没有 别 无 未 非 勿 莫 甭 否 不是 不要 不会 不能 不用 不再 并不 并非 从不 从未
毫不 毫无 绝不 未必
难以 缺乏 缺少 休 未曾 不曾 不够 没能 无法 但 但是 可是 不过 却 然而 只是 除了
"""
INTENSIFIERS = """
very too so really quite extremely absolutely totally completely highly such more most much many
rather pretty fairly super just only even still ever always all only well how what
很 太 非常 极 极其 最 更 更加 挺 特别 十分 相当 超 超级 真 真的 真是 好 多 多么
这么 那么 实在 尤其 格外 异常
越 越来越 略 稍 稍微 有点 有些 比较 较
过于 简直 完全 绝对 总是 老是 还 都 才 竟然 居然 甚至 够 足够
"""


@pytest.mark.parametrize("words", [NEGATIONS, INTENSIFIERS])
def test_no_negation_and_no_intensifier_is_a_stop_word(words: str) -> None:
    assert stop_words().isdisjoint(words.split())


def test_common_function_words_of_both_languages_are_stop_words() -> None:
    assert {"the", "of", "is", "'s", "的", "了", "我们"} <= stop_words()


def test_stop_words_are_written_as_tokens_are() -> None:
    assert all(word == word.lower().strip() and word for word in stop_words())
    assert len(stop_words()) > 250
