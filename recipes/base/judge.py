"""Score the base model on every set's development part, and write its card.

    python -m recipes.base.judge OUT       # after recipes.base.train; OUT/models/base gets card.md

The scores are of the bundle as it is shipped, weights as integers. Binary sets are scored between
their two labels. No official test part is read.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import moodal
from moodal import api, bundle
from moodal.data import manifest
from moodal.runtime.predict import Model
from moodal.types import Record
from recipes.base.sets import SETS, Set

WHOLE = "all that it holds"
HEAD = (
    "seen | rows | accuracy | macro F1 | macro recall | weighted F1 | calibration error | by chance"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    folder = out / "models" / "base"
    model = moodal.load(folder)
    named = json.loads((out / "summary.json").read_text(encoding="utf-8"))["sets"]
    learned = [given for given in SETS if given.name in named]
    scores = {given.name: score(model, given, out) for given in learned}
    failures = api.checklist(model).to_dict()
    (out / "scores.json").write_text(json.dumps(scores, indent=1), encoding="utf-8")
    text = card(model.info, learned, scores, failures)
    info = bundle.load(folder)
    files: dict[str, Any] = {name: bundle.read(folder, info, name) for name in info.files}
    bundle.save(folder, info, files | {bundle.CARD: text.encode("utf-8")})
    print(text)


def score(model: Model, given: Set, out: Path) -> dict[str, Any]:
    """A set's report: the whole, and every subset of its modalities."""
    stage = "joint" if len(given.modalities) > 1 else given.modalities[0]
    path = out / stage / "dev.jsonl"
    report = api.evaluate(_rows(path, given.name), model=model, among=given.labels).to_dict()
    kept = ("n", "accuracy", "macro_f1", "macro_recall", "weighted_f1", "calibration_error")
    every = {**report["subsets"], WHOLE: report}
    return {
        "intervals": report["intervals"],
        "subsets": {
            name: {k: found[k] for k in kept} | {"by_chance": by_chance(found["calibration_bins"])}
            for name, found in every.items()
        },
    }


def by_chance(bins: Sequence[Mapping[str, float]]) -> float:
    """The calibration error to expect of probabilities that are exactly right, on so few rows.

    Of a bin of n rows with confidence c the share that is right is off by c(1 - c) / n, variance;
    the mean of its size is that of a half-normal. Source: Leone, Nelson and Nottingham, The folded
    normal distribution (1961), equation 5.
    """
    off = [math.sqrt(2 * b["n"] * b["confidence"] * (1 - b["confidence"]) / math.pi) for b in bins]
    return sum(off) / sum(b["n"] for b in bins)


def _rows(path: Path, group: str) -> Iterator[Record]:
    """The rows of one set, ungrouped: its own groups are not known here."""
    for row in manifest.read(path):
        if isinstance(row, Record) and row.group == group:
            yield row


def card(
    info: bundle.Info, learned: list[Set], scores: dict[str, Any], failures: dict[str, Any]
) -> str:
    """Markdown. learned: the sets it was trained on. scores: by set. failures: the checklist's."""
    lines = [_INTRODUCTION.format(info=info), f"| set | language | {HEAD} |", "|---" * 10 + "|"]
    for given in learned:
        low, high = scores[given.name]["intervals"]["accuracy"]
        whole = WHOLE if len(given.modalities) > 1 else given.modalities[0]
        for seen, found in scores[given.name]["subsets"].items():
            if seen == WHOLE != whole:
                continue
            sure = f" [{low:.3f}, {high:.3f}]" if seen == whole else ""
            lines.append(
                f"| {given.name} | {', '.join(given.languages)} | {seen} | {found['n']} "
                f"| {found['accuracy']:.3f}{sure} | {found['macro_f1']:.3f} "
                f"| {found['macro_recall']:.3f} | {found['weighted_f1']:.3f} "
                f"| {found['calibration_error']:.3f} | {found['by_chance']:.3f} |"
            )
    lines += [
        "",
        "## Behaviour",
        "",
        _BEHAVIOUR,
        "",
        "| capability | cases | failed |",
        "|---|---|---|",
    ]
    for name, found in failures["capabilities"].items():
        lines.append(f"| {name} | {found['n']} | {found['failed']} |")
    lines += [
        "",
        _LIMITS.format(info=info),
        "| set | source | licence | permits |",
        "|---|---|---|---|",
    ]
    lines += [f"| {s.name} | {s.source} | {s.licence} | {s.permits} |" for s in learned]
    return "\n".join(lines) + "\n"


_INTRODUCTION = """# The base model of moodal

Sentiment (negative, neutral, positive) of Chinese and English text, of pictures, of speech, and of
any of them together. {info.parameters:,} parameters as 8-bit integers, made by moodal {info.moodal}
on {info.created} with `recipes/base`.

## Scores

On development parts; official test parts were not read. The epochs, temperatures, threshold and
how far experts of single sets are heard were chosen on these rows, which flatters a little. Rows
of training that stand in a development part were left out of training. In brackets: the 95 %
bootstrap interval of the accuracy. sst2, chnsenticorp, waimai and online-shopping have no neutral
rows and are scored between the other two.
By chance: the calibration error that exactly right probabilities would show on so few rows.
"""
_BEHAVIOUR = "Failed cases of `moodal evaluate --checklist`, by capability."
_LIMITS = """## Limits

* Under a confidence of {info.threshold:.2f} it abstains; so it does where fewer than
  {info.familiar:.0%} of the words are known to it.
* Text: tweets, forum posts, dialogue, reviews of films, shops, hotels and deliveries. News, law,
  medicine and irony are not in the data. Read the table of behaviour before trusting double
  negation, rhetorical questions or misspelt words.
* Pictures: faces cut out at 48 pixels, and 4,000 photographs at 128. What a photograph alone says
  is right half of the time: hear it beside the words.
* mvsa-single's labels are of words and picture together: a tweet whose picture is missing is told
  worse than one with it.
* Speech: acted emotions of 22 speakers, the same few sentences, heard by what tells thousands of
  speakers apart. Of real calls nothing is known.
* No set here has text, picture and voice of one moment: how three agree was learned from
  synthetic triples, and no score of three is given.
* Not for decisions about people (hiring, credit, health, policing), nor for reading emotions at
  work or at school, which law may forbid.

## Data and licences

Most sets allow research only, two forbid commercial use, two state nothing, one asks for its own
licence on what is derived from it; of the models that taught it, MiniLM (English) is under
Apache-2.0, M3E (Chinese) for research alone. Of photographs it sees what EfficientNet-Lite0
(Apache-2.0) does, which learned from ImageNet, whose terms say research; of voices what the network
of Resemblyzer (Apache-2.0) hears, which learned from LibriSpeech (CC BY 4.0)
and VoxCeleb (speech of public videos, whose rights lie with others). Whether weights are
derived from data is not settled law: take these weights for research, and for anything else train
your own with `moodal train`.
"""

if __name__ == "__main__":
    main()
