"""The toy set's sentences: an opinion of a thing, often with a negation, in English or Chinese."""

from __future__ import annotations

import numpy as np

_EN: dict[str, tuple[str, ...]] = {
    "thing": ("the hotel", "this phone", "the film", "our dinner", "the concert", "that book",
              "the new bus line", "her lecture", "the garden", "this camera", "the coffee",
              "my flight", "the match", "his painting", "the museum"),
    "good": ("wonderful", "great", "delightful", "lovely", "excellent", "charming", "superb"),
    "bad": ("terrible", "awful", "boring", "dreadful", "poor", "disappointing", "horrible"),
    "plain": ("on Monday", "in the town", "on the second floor", "near the station",
              "at nine o'clock", "in the list", "open until six"),
    "very": ("", "really ", "very ", "truly ", "quite "),
    "lead": ("", "I think ", "honestly, ", "we found that ", "as far as I can tell, ", "well, "),
    "tail": ("", " today", " this time", " again", " after all", " in the end", " this week"),
}  # fmt: skip
_ZH: dict[str, tuple[str, ...]] = {
    "thing": ("这家酒店", "这部手机", "这部电影", "今天的晚饭", "这场音乐会", "那本书",
              "新的公交线", "她的讲座", "这个花园", "这台相机", "这杯咖啡", "我的航班",
              "这场比赛", "他的画", "这座博物馆"),
    "good": ("精彩", "很棒", "出色", "可爱", "优秀", "迷人", "舒服"),
    "bad": ("糟糕", "差劲", "无聊", "可怕", "难受", "令人失望", "讨厌"),
    "plain": ("在星期一", "在城里", "在二楼", "在车站旁边", "是九点钟开始", "在名单上", "开到六点"),
    "very": ("", "真的", "非常", "实在", "相当"),
    "lead": ("", "我觉得", "说实话，", "我们发现", "据我所知，", "嗯，"),
    "tail": ("", "，今天也是", "，这次就是这样", "，又一次", "，总的来说",
             "，终究如此", "，这周也是"),
}  # fmt: skip
_FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    # negative, neutral, positive
    "en": (
        ("{lead}{thing} was {very}{bad}{tail}", "{lead}{thing} was not {good}{tail}",
         "{lead}I did not like {thing} at all, {very}{bad}{tail}",
         "{lead}{thing} is never {good}{tail}"),
        ("{lead}{thing} is {plain}{tail}", "{lead}they said {thing} is {plain}{tail}",
         "{lead}{thing} was {plain}, neither {good} nor {bad}{tail}"),
        ("{lead}{thing} was {very}{good}{tail}", "{lead}{thing} was not {bad}{tail}",
         "{lead}I liked {thing} a lot, {very}{good}{tail}",
         "{lead}{thing} is never {bad}{tail}"),
    ),
    "zh": (
        ("{lead}{thing}{very}{bad}{tail}", "{lead}{thing}不{good}{tail}",
         "{lead}我一点也不喜欢{thing}，{very}{bad}{tail}", "{lead}{thing}从来不{good}{tail}"),
        ("{lead}{thing}{plain}{tail}", "{lead}他们说{thing}{plain}{tail}",
         "{lead}{thing}{plain}，既不{good}也不{bad}{tail}"),
        ("{lead}{thing}{very}{good}{tail}", "{lead}{thing}不{bad}{tail}",
         "{lead}我很喜欢{thing}，{very}{good}{tail}", "{lead}{thing}从来不{bad}{tail}"),
    ),
}  # fmt: skip
_ENDS = {"en": (".", "!", "", "..."), "zh": ("。", "！", "", "……")}


def sentence(label: int, lang: str, rng: np.random.Generator) -> str:
    """A sentence that is negative (0), neutral (1) or positive (2). lang: en or zh."""
    words = _ZH if lang == "zh" else _EN
    chosen = {slot: _one(choices, rng) for slot, choices in words.items()}
    text = _one(_FORMS[lang][label], rng).format(**chosen) + _one(_ENDS[lang], rng)
    return text[0].upper() + text[1:]


def _one(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
