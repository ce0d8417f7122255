"""Short phrases made here, so that negation is learned where the data sets hardly show it.

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

from moodal.evaluation import checklist
from recipes.base.manifests import fold

GROUP = "phrases"
DEV_SHARE = 10
"""One phrase in so many is dev."""

# language -> (template, label): {s} what is spoken of, {p} a word of praise, {n} of blame.
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
        ),
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
        ),
    },
}
WORDS = {
    "en": {
        "s": "the meal|this film|the service|my room|the phone|this book|the staff|it|this app",
        "p": "good|great|nice|pleasant|helpful|clean|tasty|reliable|comfortable|fun|moving|fast",
        "n": "bad|terrible|awful|slow|rude|dirty|boring|ugly|noisy|disappointing|useless|annoying",
    },
    "zh": {
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
        for label, templates in labels.items():
            for template in templates:
                kind = "p" if "{p}" in template else "n"
                for thing, word in product(words["s"], words[kind]):
                    text = template.format(**{"s": thing, kind: word})
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
