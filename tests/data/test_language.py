"""The language of a text follows its script."""

from __future__ import annotations

import pytest

from moodal.data.language import language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这家酒店很好", "zh"),
        ("这个 app 很好用", "zh"),
        ("I love it", "en"),
        ("I love 北京", "en"),
        ("un café", "en"),
        ("12 :-) !!", ""),
        ("😀", ""),
        ("", ""),
        ("日本語のテキスト", ""),
        ("очень хорошо", ""),
    ],
)
def test_the_language_follows_the_script(text: str, expected: str) -> None:
    assert language(text) == expected
