"""Second stage of the base recipe: the sets as manifests, a folder for each stage of training.

    python -m recipes.base.manifests DATA OUT [--casia-speaker NAME] [--oasis-fold K]

writes OUT/<stage>/train.jsonl and dev.jsonl for the stages text, image, audio (one modality each)
and joint (several at once, and some rows of each alone), and OUT/summary.json, which counts them.
`group` is the set that a row is from; paths are absolute. Same data, choices and seed: same rows.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from moodal.config import Columns
from moodal.data.manifest import read
from moodal.data.rows import fingerprint
from moodal.errors import DataError
from moodal.types import MODALITIES, Media, Modality, Record, Rejection
from recipes.base.sets import LABELS, SETS, Part, Set, verify

PARTS: tuple[Part, ...] = ("train", "dev")
STAGES = (*MODALITIES, "joint")
LANGUAGES = ("zh", "en")
CASIA_SPEAKERS = ("casia-wangzhe", "casia-liuchanhg", "casia-ZhaoZuoxiang")
OASIS_FOLDS = 5
SHOPPING_SHARE = 20
"""One in so many texts of online-shopping is held out."""
PER_SET: Mapping[Part, int] = {"train": 12_000, "dev": 500}
"""Rows of a set of one modality that the joint stage sees, so that none drowns the pairs."""
TRIPLES: Mapping[Part, int] = {"train": 4000, "dev": 500}
SYNTHETIC = "synthetic-triples"


class Choice(NamedTuple):
    """Which rows of a set are dev, in words and as a rule.

    is_dev: sees the record with the set's own id and group (a speaker, a dialogue).
    """

    words: str
    is_dev: Callable[[Record], bool]


HeldOut = Mapping[str, Choice]
"""Set -> its dev rows. A set that is not named keeps its own parts; of one that is named, they
count for nothing."""


def held_out(*, casia_speaker: str = CASIA_SPEAKERS[0], oasis_fold: int = 0) -> HeldOut:
    """The dev rows of the sets that have no dev part of their own.

    casia: one speaker. oasis: one of OASIS_FOLDS folds, by theme ("Dog 3" is of the theme "Dog"),
    since two pictures of a theme are much alike. online-shopping: every SHOPPING_SHARE-th text,
    by its hash, so that copies stay together.
    """
    return {
        "casia": Choice(f"speaker {casia_speaker}", lambda r: r.group == casia_speaker),
        "oasis": Choice(
            f"fold {oasis_fold} of {OASIS_FOLDS}, by theme",
            lambda r: bucket(theme(r.id), OASIS_FOLDS) == oasis_fold,
        ),
        "online-shopping": Choice(
            f"one text in {SHOPPING_SHARE}, by hash",
            lambda r: bucket(fold(str(r.text)), SHOPPING_SHARE) == 0,
        ),
    }


def write(
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    dev: HeldOut | None = None,
    sets: Sequence[Set] = SETS,
) -> dict[str, Any]:
    """Write the manifests of all stages and summary.json; the summary.

    data: the folder of the sets (call `verify` first). seed: of what the joint stage draws.
    dev: see HeldOut; None is held_out().
    Dropped: rows without a label, and rows of train whose text or picture stands in any dev part.
    Raises: DataError, when a set cannot be read or nothing of it is held out.
    """
    out = out.resolve()
    dropped: Counter[tuple[str, str]] = Counter()
    dev = held_out() if dev is None else dev
    parts = _load(data.resolve(), sets, dev, dropped)
    parts["train"] = _without_copies(parts["train"], parts["dev"], dropped)
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    summary: dict[str, Any] = {
        "seed": seed,
        "held_out": {name: choice.words for name, choice in dev.items()},
        "dropped": _nested(dropped),
        "sets": {given.name: dict(given.sha256) for given in sets},
        "stages": stages,
    }
    for part in PARTS:
        records = [_filed(record, out) for record in parts[part]]
        rows_of: dict[str, list[Record]] = {m: _alone(records, m) for m in MODALITIES}
        rows_of["joint"] = joint(records, part, seed=seed)
        for stage, rows in rows_of.items():
            path = out / stage / f"{part}.jsonl"
            save(path, rows)
            stages[stage][part] = {**tally(rows), "sha256": fingerprint(path)}
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    return summary


def fold(text: str) -> str:
    """What makes two texts copies: all but width, case, white space and byte order marks."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\ufeff", "")
    return "".join(plain.split())


def pixels(image: Media) -> str:
    """The SHA-256 of a picture's size and RGB values. image: a path, or the bytes of a file."""
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else Path(str(image))) as picture:
        rgb = picture.convert("RGB")
    return hashlib.sha256(str(rgb.size).encode() + rgb.tobytes()).hexdigest()


def joint(records: Sequence[Record], part: Part, *, seed: int) -> list[Record]:
    """The joint stage: all real pairs, some rows of each set of one modality, made-up triples."""
    rng = np.random.default_rng([seed, PARTS.index(part)])
    alone: dict[str, list[Record]] = {}
    for record in records:
        if len(record.modalities) == 1:
            alone.setdefault(record.group, []).append(record)
    chosen = [
        rows[i]
        for rows in alone.values()
        for i in np.sort(rng.permutation(len(rows))[: PER_SET[part]])
    ]
    pairs = [record for record in records if len(record.modalities) > 1]
    return [*pairs, *chosen, *triples(records, part, rng)]


def triples(records: Sequence[Record], part: Part, rng: np.random.Generator) -> Iterator[Record]:
    """Text, picture and speech of equal label from three different sets: SYNTHETIC, not real.

    No set has all three of one moment. Labels and the text's languages come in equal numbers,
    and within them the sets.
    """
    pools: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for record in records:
        for modality in record.modalities:
            lang = record.lang if modality == "text" else ""
            pool = pools.setdefault((modality, str(record.target), lang), {})
            pool.setdefault(record.group, []).append(record)

    def draw(modality: Modality, label: str, lang: str = "", but: str = "") -> Record:
        sets = {k: rows for k, rows in pools.get((modality, label, lang), {}).items() if k != but}
        if not sets:
            raise DataError(f"{part}: no {lang} {modality} is {label}; triples need one of each")
        rows = sets[list(sets)[rng.integers(len(sets))]]
        return rows[rng.integers(len(rows))]

    for i in range(TRIPLES[part]):
        label, lang = LABELS[i % 3], LANGUAGES[i // 3 % 2]
        text = draw("text", label, lang)
        image = draw("image", label, but=text.group)
        audio = draw("audio", label)
        yield replace(
            text,
            id=f"{SYNTHETIC}/{part}/{i + 1}",
            image=image.image,
            audio=audio.audio,
            group=SYNTHETIC,
        )


def save(path: Path, records: Sequence[Record]) -> None:
    """Write a manifest (JSONL), whole or not at all; an absent modality or label is ""."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for record in records:
            row = {
                "id": record.id,
                "text": record.text or "",
                "image": str(record.image or ""),
                "audio": str(record.audio or ""),
                "label": record.target or "",
                "lang": record.lang,
                "group": record.group,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    temporary.replace(path)


def tally(records: Sequence[Record]) -> dict[str, Any]:
    """Rows in all, by set and label, by language, and by which modalities are there."""
    labels = Counter((record.group, record.target or "") for record in records)
    return {
        "rows": len(records),
        "sets": _nested(labels),
        "languages": dict(Counter(record.lang for record in records)),
        "modalities": dict(Counter("+".join(record.modalities) for record in records)),
    }


# ---- reading -----------------------------------------------------------------------------------


def _load(
    data: Path, sets: Sequence[Set], dev: HeldOut, dropped: Counter[tuple[str, str]]
) -> dict[Part, list[Record]]:
    parts: dict[Part, list[Record]] = {"train": [], "dev": []}
    for given in sets:
        before = len(parts["dev"])
        for part, file in given.files.items():
            rows = read(data / given.name / file, Columns(**given.columns))
            for number, row in enumerate(rows, start=1):
                if isinstance(row, Rejection) or row.target is None:
                    reason = "unreadable" if isinstance(row, Rejection) else "unlabelled"
                    dropped[given.name, reason] += 1
                    continue
                is_dev = dev[given.name].is_dev(row) if given.name in dev else part == "dev"
                name = f"{given.name}/{part}/{number}"
                parts["dev" if is_dev else "train"].append(replace(row, id=name, group=given.name))
        if len(parts["dev"]) == before:
            raise DataError(f"{given.name}: no row of it is held out for dev; name one in `dev`")
    return parts


def _without_copies(
    train: Sequence[Record], dev: Sequence[Record], dropped: Counter[tuple[str, str]]
) -> list[Record]:
    texts = {fold(record.text) for record in dev if isinstance(record.text, str)}
    images = {pixels(record.image) for record in dev if record.image is not None}
    kept = []
    for record in train:
        if isinstance(record.text, str) and fold(record.text) in texts:
            dropped[record.group, "text is in dev"] += 1
        elif record.image is not None and pixels(record.image) in images:
            dropped[record.group, "picture is in dev"] += 1
        else:
            kept.append(record)
    return kept


def _filed(record: Record, out: Path) -> Record:
    """The record with a picture that came as bytes (always a JPEG: fer2013) as a file."""
    if not isinstance(record.image, bytes):
        return record
    path = out / "media" / f"{record.id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.image)
    return replace(record, image=path)


def _alone(records: Sequence[Record], modality: Modality) -> list[Record]:
    """The records of that modality and no other; a picture has no language.

    The halves of pairs are left to the joint stage: an encoder learns these few by heart, and is
    then believed too much.
    """
    alone = [record for record in records if record.modalities == (modality,)]
    return [replace(record, lang="") for record in alone] if modality == "image" else alone


def bucket(name: str, n: int) -> int:
    """One of n, by its hash."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % n


def theme(name: str) -> str:
    """What a picture's name is without its number: "Dog 3", or Dog_3, is a Dog."""
    return re.sub(r"[ _]\d+$", "", name)


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), n in sorted(counts.items()):
        nested.setdefault(outer, {})[inner] = n
    return nested


def add_choices(parser: argparse.ArgumentParser) -> None:
    """What `held_out` is told, as options."""
    parser.add_argument("--casia-speaker", choices=CASIA_SPEAKERS, default=CASIA_SPEAKERS[0])
    parser.add_argument("--oasis-fold", type=int, choices=range(OASIS_FOLDS), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.base.manifests")
    parser.add_argument("data", type=Path, help="the folder of the data sets")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    add_choices(parser)
    given = parser.parse_args()
    verify(given.data)
    dev = held_out(casia_speaker=given.casia_speaker, oasis_fold=given.oasis_fold)
    summary = write(given.data, given.out, seed=given.seed, dev=dev)
    for stage, parts in summary["stages"].items():
        counts = ", ".join(f"{part} {found['rows']:,}" for part, found in parts.items())
        sys.stdout.write(f"{stage}: {counts}\n")


if __name__ == "__main__":
    main()
