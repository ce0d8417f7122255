"""Short phrases made here, to teach what the data sets hardly show: negation, what an emoji adds to
words that say nothing, and plain facts in Chinese, whose sets of reviews know no neutral.

"not bad" is praise and "not good" is not, and a review says so less often than a phone call. Each
phrase is a template filled with words; texts of the checklist of behaviour are left out, so that it
still asks about sentences that were not learned. They are synthetic: no score on them is a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Formatter

from moodal.evaluation import checklist
from recipes.base.manifests import fold

GROUP = "phrases"
DEV_SHARE = 10
"""One phrase in so many is dev."""

# language -> label -> templates: {s} what is spoken of, {p} a word of praise, {n} of blame; {w} who
# does {f} a plain thing, {t} when, {m} a merry emoji or emoticon, {u} an unhappy one.
TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "positive": (
            "{s} is {p}",
            "{s} was really {p}",
            "{s} is not {n}",
            "{s} was not {n} at all",
            "not {n} at all, {s}",
            "{s} isn't {n}",
            "{s} is far from {n}",
            "nothing {n} about {s}",
            "{s} is never {n}",
            "I can't say {s} is {n}",
            "{s} couldn't be more {p}",
            "nobody could call {s} {n}",
            "I wouldn't say {s} is not {p}",
            "there is no denying that {s} is {p}",
            "{w} {f} {m}",
        ),
        "negative": (
            "{s} is {n}",
            "{s} was really {n}",
            "{s} is not {p}",
            "{s} was not {p} at all",
            "not {p} at all, {s}",
            "{s} isn't {p}",
            "{s} is far from {p}",
            "nothing {p} about {s}",
            "{s} is never {p}",
            "I can't say {s} is {p}",
            "{s} couldn't be more {n}",
            "nobody could call {s} {p}",
            "I wouldn't say {s} is not {n}",
            "there is no denying that {s} is {n}",
            "{w} {f} {u}",
        ),
        "neutral": ("{w} {f} {t}",),
    },
    "zh": {
        "positive": (
            "{s}很{p}",
            "{s}真的{p}",
            "{s}不{n}",
            "{s}一点都不{n}",
            "{s}并不{n}",
            "{s}没有那么{n}",
            "{s}不是不{p}",
            "谁说{s}不{p}",
            "{s}没什么不{p}的",
            "没有人说{s}不{p}",
            "不能不说{s}很{p}",
            "{s}没有一次不{p}",
            "{w}{f}{m}",
        ),
        "negative": (
            "{s}很{n}",
            "{s}太{n}了",
            "{s}不{p}",
            "{s}一点都不{p}",
            "{s}并不{p}",
            "{s}没有那么{p}",
            "{s}不是不{n}",
            "{s}哪里{p}了",
            "{s}谈不上{p}",
            "没有人说{s}不{n}",
            "不能不说{s}很{n}",
            "{s}没有一次不{n}",
            "{w}{f}{u}",
        ),
        "neutral": ("{w}{t}{f}",),
    },
}
MOODS = {
    "m": "😀|😄|😊|😍|🥰|❤️|👍|🎉|🌹|:)|:D|^_^",
    "u": "😡|😠|😤|😢|😭|😞|💔|👎|🤮|:(|T_T|>_<",
}
WORDS = {
    "en": {
        **MOODS,
        "w": "the teacher|my cousin|our neighbour|the nurse|he|she",
        "f": "works from home|is at the station|takes the bus|has a form to fill in|"
        "watches the game|lives on the third floor|reads the report|painted the fence",
        "t": "today|this morning|on Tuesday|since last week|at noon|in April|as usual|every day",
        "s": "the meal|this film|the service|my room|the phone|this book|the staff|it|this app",
        "p": "good|great|nice|pleasant|helpful|clean|tasty|reliable|comfortable|fun|moving|fast",
        "n": "bad|terrible|awful|slow|rude|dirty|boring|ugly|noisy|disappointing|useless|annoying",
    },
    "zh": {
        **MOODS,
        "w": "老师|我表哥|邻居|护士|他|她",
        "f": "在家上班|在车站|坐公交车|要填一张表|在看比赛|住在三楼|在读文件|给围栏刷了漆",
        "t": "今天|今天早上|星期二|上周|中午|四月份|照常|每天",
        "s": "服务|味道|房间|这部电影|手机|送餐|这本书|环境|店家",
        "p": "好|好吃|干净|舒服|满意|好看|快|热情|漂亮|方便|有意思|靠谱",
        "n": "差|难吃|脏|吵|失望|难看|慢|冷淡|贵|麻烦|无聊|糟糕",
    },
}


def phrases() -> Iterator[tuple[str, str, str]]:
    """(text, label, language) of each, once."""
    asked = {fold(str(case.given.text)) for case in checklist.cases()}
    for language, labels in TEMPLATES.items():
        words = {name: listed.split("|") for name, listed in WORDS[language].items()}
        for label, template in ((label, t) for label, listed in labels.items() for t in listed):
            fields = [name for _, name, _, _ in Formatter().parse(template) if name]
            for filled in product(*(words[name] for name in fields)):
                text = template.format(**dict(zip(fields, filled, strict=True)))
                if fold(text) not in asked:
                    yield text, label, language


def write(out: Path) -> None:
    """Add them to the manifests of the text and the joint stage."""
    for text, label, language in phrases():
        draw = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        part = "dev" if draw % DEV_SHARE == 0 else "train"
        row = {"id": f"{GROUP}/{part}/{draw}", "text": text, "image": "", "audio": ""}
        row |= {"label": label, "lang": language, "group": GROUP}
        for stage in ("text", "joint"):
            with (out / stage / f"{part}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
