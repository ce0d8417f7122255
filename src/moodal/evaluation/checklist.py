"""A checklist of behaviour: what a model of sentiment must get right, whatever it was trained on.

Source: Ribeiro, Wu, Guestrin, Singh, Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (ACL 2020): a matrix of capabilities and types of test. The cases are our own.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from moodal.bundle import Info, writing
from moodal.errors import DataError
from moodal.evaluation import page, report, stimuli
from moodal.evaluation.expectations import (
    EXPECTATIONS,
    SURE,
    TOLERANCE,
    Answer,
    answer,
    polarities_of,
)
from moodal.runtime.predict import Model
from moodal.types import MODALITIES

CASES, NUMBERS = "checklist.yaml", "checklist.json"
FORMAT = 1
LANGUAGES = ("en", "zh", "mixed", "other")
MAX_SHOWN = 2
"""Failed cases of one capability that the table in a terminal shows."""


class Given(NamedTuple):
    """What a model is shown; image and audio are names of stimuli."""

    text: str | None = None
    image: str | None = None
    audio: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One question. lang: one of LANGUAGES. expect: a name of EXPECTATIONS. before: what the
    answer is compared with."""

    capability: str
    lang: str
    expect: str
    given: Given
    before: Given | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case went. skipped: why it was not asked; "" = it was."""

    case: Case
    failed: bool = False
    skipped: str = ""
    said: Answer | None = None
    before: Answer | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; compared_with: the text it is compared with, and what was said."""
        case = self.case
        compared = case.before and self.before and _shown(case.before, self.before)
        return {
            "capability": case.capability,
            "type": EXPECTATIONS[case.expect].type,
            "lang": case.lang,
            "expected": case.expect,
            **(_shown(case.given, self.said) if self.said else {"skipped": self.skipped}),
            "compared_with": compared,
        }


def _shown(given: Given, said: Answer) -> dict[str, Any]:
    return {**given._asdict(), "said": asdict(said)}


@dataclass(frozen=True, slots=True)
class Tally:
    """n: cases asked. failed: of these. skipped: cases that could not be asked, not in n."""

    n: int
    failed: int
    skipped: int

    @property
    def failure_rate(self) -> float | None:
        """In [0, 1]; None where nothing was asked."""
        return self.failed / self.n if self.n else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failure_rate": self.failure_rate}


@dataclass(frozen=True, slots=True)
class Checklist:
    """How a model did. outcomes: of every case, in the order of the capabilities."""

    model: str
    outcomes: tuple[Outcome, ...]

    def capabilities(self) -> dict[str, tuple[Outcome, ...]]:
        found: dict[str, tuple[Outcome, ...]] = {}
        for outcome in self.outcomes:
            capability = outcome.case.capability
            found[capability] = (*found.get(capability, ()), outcome)
        return found

    def to_dict(self) -> dict[str, Any]:
        names = capability_names()
        return {
            "format": FORMAT,
            "model": self.model,
            "tolerance": TOLERANCE,
            "sure": SURE,
            **_numbers(self.outcomes),
            "capabilities": {
                capability: {"name_zh": names.get(capability, ""), **_numbers(outcomes)}
                for capability, outcomes in self.capabilities().items()
            },
            "reasons_skipped": _reasons(self.outcomes),
            "failures": [outcome.to_dict() for outcome in self.outcomes if outcome.failed],
        }


# ---- the cases ---------------------------------------------------------------------------------


def capability_names() -> dict[str, str]:
    """English name -> Chinese name, in the order of the table."""
    return dict(_document()["capabilities"])


def cases() -> tuple[Case, ...]:
    """Every case of the package, those of one capability together."""
    document = _document()
    order = list(document["capabilities"])
    every = [case for group in document["groups"] for case in _cases(group)]
    return tuple(sorted(every, key=lambda case: order.index(case.capability)))


def _document() -> Any:
    text = resources.files("moodal.evaluation").joinpath(CASES).read_text(encoding="utf-8")
    return yaml.safe_load(text)


def _cases(group: Mapping[str, Any]) -> Iterator[Case]:
    capability, expect = group["capability"], group["expect"]
    media = Given(None, group.get("image"), group.get("audio"))
    written = [(lang, item) for lang in LANGUAGES for item in group.get(lang, ())]
    if not written:
        yield Case(capability, "other", expect, media)
    for lang, item in written:
        first, *changed = _texts(item, group.get("fill", {}).get(lang, ()))
        if media != Given():
            yield Case(capability, lang, expect, media._replace(text=first), Given(first))
        elif not changed:
            yield Case(capability, lang, expect, Given(first))
        for text in changed:
            yield Case(capability, lang, expect, Given(text), Given(first))


def _texts(item: str | Sequence[str], fill: Sequence[str]) -> Sequence[str]:
    """The text alone, or the text to compare with and then its changed forms."""
    if not isinstance(item, str):
        return item
    return [item.format(word) for word in fill] or [item]


# ---- asking ------------------------------------------------------------------------------------


def run(model: Model, asked: Iterable[Case] | None = None) -> Checklist:
    """Put every case to a model, in one stream of predictions.

    asked: None = all of the package. A case that the model cannot be asked is skipped, with a
    reason; an input that it refuses to read is an answer of no confidence.
    """
    every = cases() if asked is None else tuple(asked)
    obstacles = [_obstacle(case, model.info) for case in every]
    open_cases = [c for c, obstacle in zip(every, obstacles, strict=True) if not obstacle]
    shown = dict.fromkeys(g for c in open_cases for g in (c.given, c.before) if g is not None)
    said = model.predict_many([_record(given) for given in shown])
    polarities = polarities_of(model.info.labels)
    answers = {g: answer(s, polarities) for g, s in zip(shown, said, strict=True)}
    outcomes = (
        Outcome(case, skipped=obstacle) if obstacle else _judged(case, answers)
        for case, obstacle in zip(every, obstacles, strict=True)
    )
    return Checklist(model.info.name, tuple(outcomes))


def _obstacle(case: Case, info: Info) -> str:
    """Why a model cannot be asked; "" = it can."""
    if not info.labels:
        return "the model answers with a number, not a label"
    for modality in MODALITIES:
        wanted = getattr(case.given, modality) is not None
        if wanted and info.kinds.get(modality, "vectors") == "vectors":
            features = " but features" if modality in info.kinds else ""
            return f"the model reads no {modality}{features}"
    unknown = EXPECTATIONS[case.expect].needs - set(polarities_of(info.labels).values())
    return f"the model has no label for {', '.join(sorted(unknown))}" if unknown else ""


def _record(given: Given) -> dict[str, Any]:
    return {
        "text": given.text,
        "image": given.image and stimuli.image(given.image),
        "audio": given.audio and stimuli.audio(given.audio),
    }


def _judged(case: Case, answers: Mapping[Given, Answer]) -> Outcome:
    said = answers[case.given]
    before = None if case.before is None else answers[case.before]
    failed = not EXPECTATIONS[case.expect].holds(said, before or said)
    return Outcome(case, failed=failed, said=said, before=before)


# ---- telling -----------------------------------------------------------------------------------


def tally(outcomes: Iterable[Outcome]) -> Tally:
    counts = Counter("skipped" if o.skipped else "failed" if o.failed else "held" for o in outcomes)
    return Tally(counts["failed"] + counts["held"], counts["failed"], counts["skipped"])


def write(result: Checklist, out: Path) -> Path:
    """checklist.json into the folder `out`. Raises: DataError when `out` is a file."""
    text = json.dumps(result.to_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    try:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            temporary = out / f".{NUMBERS}.{os.getpid()}"
            temporary.write_text(text, encoding="utf-8")
            return temporary.replace(out / NUMBERS)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{out}: is a file, or inside one; name a folder with --out") from error


def table(result: Checklist) -> str:
    """Failure rates by capability and language, and the first failed cases, for a terminal."""
    names, whole = capability_names(), tally(result.outcomes)
    lines = [f"{result.model}: {whole.n} cases asked, {whole.failed} failed", ""]
    head = ["capability 能力", "asked 已问", "failed 失败", "skipped 跳过", "rate 失败率"]
    rows = [
        [f"{capability} {names.get(capability, '')}".strip(), *_cells(outcomes)]
        for capability, outcomes in result.capabilities().items()
    ]
    lines += report.aligned([[*head, *LANGUAGES], *rows, ["all 合计", *_cells(result.outcomes)]])
    reasons = _reasons(result.outcomes)
    lines += ["", *(f"skipped {n}: {reason}" for reason, n in reasons.items())] if reasons else []
    if whole.failed:
        lines += ["", "failed, for example (all of them: --json, or --out DIR)"]
    for outcomes in result.capabilities().values():
        failures = [outcome for outcome in outcomes if outcome.failed]
        lines += [_line(outcome) for outcome in failures[:MAX_SHOWN]]
    return "\n".join(lines)


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    of_all = tally(outcomes)
    rates = [tally(o for o in outcomes if o.case.lang == lang).failure_rate for lang in LANGUAGES]
    counts = [str(of_all.n), str(of_all.failed), str(of_all.skipped)]
    return counts + [page.number(rate) for rate in (of_all.failure_rate, *rates)]


def _line(outcome: Outcome) -> str:
    case, said = outcome.case, f"{_named(outcome.case.given)}: {outcome.said}"
    compared = f"; {_named(case.before)}: {outcome.before}" if case.before else ""
    return f"  {case.capability}: expected {case.expect}; {said}{compared}"


def _named(given: Given) -> str:
    words = [] if given.text is None else [json.dumps(given.text, ensure_ascii=False)]
    media = {"image": given.image, "audio": given.audio}
    return " + ".join([*words, *(f"{name} ({m})" for m, name in media.items() if name)])


def _numbers(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    parts = {lang: [o for o in outcomes if o.case.lang == lang] for lang in LANGUAGES}
    languages = {lang: tally(part).to_dict() for lang, part in parts.items() if part}
    return {**tally(outcomes).to_dict(), "languages": languages}


def _reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.skipped for outcome in outcomes if outcome.skipped))
