"""The checklist: its cases, what each expectation lets pass, and what it says of a model."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SETTINGS, train_once

import moodal
from moodal import api
from moodal.errors import DataError
from moodal.evaluation import checklist, stimuli
from moodal.evaluation.checklist import Case, Checklist, Given, Outcome, Tally
from moodal.evaluation.expectations import EXPECTATIONS, Answer, answer, polarities_of
from moodal.types import Prediction, Rejection

THREE = ("negative", "neutral", "positive")
ASKED_FOR = {
    "negation",
    "double negation",
    "intensity",
    "emoji and emoticons",
    "neutral facts",
    "questions",
    "typos",
    "capitals",
    "names",
    "gender",
    "places",
    "picture against words",
    "voice against words",
}


@dataclass(frozen=True)
class Info:
    labels: tuple[str, ...] = THREE
    kinds: Mapping[str, str] = field(default_factory=lambda: {"text": "tokens"})
    name: str = "said"


@dataclass(frozen=True)
class Said:
    """A model that answers a text with the probabilities written down for it."""

    answers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    info: Info = field(default_factory=Info)

    def predict_many(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Prediction]:
        for record in records:
            shares = self.answers[record["text"]]
            yield said(dict(zip(self.info.labels, shares, strict=True)))


def said(probabilities: Mapping[str, float], *, abstain: bool = False) -> Prediction:
    label = max(probabilities, key=lambda name: probabilities[name])
    sure = probabilities[label]
    return Prediction("0", label, None, probabilities, sure, ("text",), {}, abstain=abstain)


def heard(*shares: float, abstain: bool = False) -> Answer:
    of_labels = dict(zip(THREE, shares, strict=True))
    return answer(said(of_labels, abstain=abstain), polarities_of(THREE))


def case(expect: str, text: str, before: str | None = None) -> Case:
    return Case("words", "en", expect, Given(text), None if before is None else Given(before))


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@pytest.fixture(scope="module")
def tiny() -> Checklist:
    return checklist.run(moodal.load(train_once()))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> moodal.Model:
    """Reads words alone, and knows some."""
    data, out = train_once().parent / "data", tmp_path_factory.mktemp("reader") / "model"
    settings = (*SETTINGS, "modalities=[text]", "train.epochs=20", "train.patience=20")
    return api.train(data / "train.csv", valid=data / "dev.csv", out=out, settings=settings)


# ---- the cases ---------------------------------------------------------------------------------


def test_there_are_cases_of_every_capability_in_both_languages() -> None:
    every = checklist.cases()
    by_language = Counter(case.lang for case in every)
    assert len(every) >= 200
    assert min(by_language["en"], by_language["zh"]) > 0.4 * len(every)
    for lang in ("en", "zh"):
        assert {case.capability for case in every if case.lang == lang} >= ASKED_FOR
    assert len(set(every)) == len(every), "no case stands there twice"


def test_the_cases_use_only_names_that_exist() -> None:
    every = checklist.cases()
    assert {case.expect for case in every} == set(EXPECTATIONS)
    assert list(dict.fromkeys(c.capability for c in every)) == list(checklist.capability_names())
    for case in every:
        alone = EXPECTATIONS[case.expect].type == "MFT"
        assert (case.before is None) is alone, case
        assert all(isinstance(part, str | None) for part in (*case.given, *(case.before or ())))
        assert case.given != case.before
        assert "{" not in (case.given.text or ""), "every slot is filled"


def test_a_text_with_a_slot_is_compared_across_its_fillings() -> None:
    places = [case for case in checklist.cases() if case.capability == "places"]
    texts = [c.given.text for c in places if c.before == Given("会议在杭州举行。")]
    assert texts == ["会议在兰州举行。", "会议在拉萨举行。", "会议在内罗毕举行。"]


def test_a_picture_is_compared_with_the_words_alone() -> None:
    for case in checklist.cases():
        if case.capability == "picture against words":
            assert case.before == Given(case.given.text)
            assert case.given.image in ("frown", "smile")


def test_stimuli_are_the_same_every_time_and_differ_from_each_other() -> None:
    images = [stimuli.image(name) for name in ("frown", "smile", "black", "white", "noise")]
    sounds = [stimuli.audio(n) for n in ("gloomy", "cheerful", "silence", "music", "noise")]
    assert all(image.shape == (96, 96, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == len(set(sounds)) == 5
    for name in ("smile", "noise"):
        assert stimuli.image(name).tobytes() == stimuli.image(name).tobytes()
    for name in ("cheerful", "music", "noise"):
        assert stimuli.audio(name) == stimuli.audio(name)
    assert stimuli.image("smile").mean() > stimuli.image("frown").mean() + 20


# ---- what is expected --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "shares", "holds"),
    [
        ("negative", (0.5, 0.3, 0.2), True),
        ("negative", (0.3, 0.5, 0.2), False),
        ("neutral", (0.3, 0.5, 0.2), True),
        ("positive", (0.3, 0.5, 0.2), False),
        ("not negative", (0.3, 0.5, 0.2), True),
        ("not negative", (0.2, 0.3, 0.5), True),
        ("not negative", (0.5, 0.3, 0.2), False),
        ("unsure", (0.69, 0.31, 0.0), True),
        ("unsure", (0.71, 0.29, 0.0), False),
    ],
)
def test_an_answer_alone(expect: str, shares: tuple[float, ...], holds: bool) -> None:
    assert EXPECTATIONS[expect].holds(heard(*shares), heard(*shares)) is holds


def test_an_answer_under_the_models_own_threshold_is_unsure() -> None:
    sure = heard(0.99, 0.01, 0.0, abstain=True)
    assert EXPECTATIONS["unsure"].holds(sure, sure)


@pytest.mark.parametrize(
    ("expect", "before", "now", "holds"),
    [
        # positivity: (1 + positive - negative) / 2
        ("same", (0.5, 0.3, 0.2), (0.45, 0.35, 0.2), True),
        ("same", (0.5, 0.3, 0.2), (0.62, 0.18, 0.2), False),  # the label stays, 0.12 moves
        ("same", (0.4, 0.39, 0.21), (0.39, 0.4, 0.21), False),  # little moves, the label does
        ("not lower", (0.2, 0.0, 0.8), (0.29, 0.0, 0.71), True),
        ("not lower", (0.2, 0.0, 0.8), (0.31, 0.0, 0.69), False),
        ("not lower", (0.2, 0.0, 0.8), (0.0, 0.0, 1.0), True),
        ("not higher", (0.8, 0.0, 0.2), (0.69, 0.0, 0.31), False),
        ("not higher", (0.8, 0.0, 0.2), (1.0, 0.0, 0.0), True),
        ("lower", (0.2, 0.0, 0.8), (0.2, 0.0, 0.8), False),
        ("lower", (0.2, 0.0, 0.8), (0.31, 0.0, 0.69), True),
        ("lower", (0.2, 0.0, 0.8), (0.29, 0.0, 0.71), False),
        ("lower", (0.95, 0.0, 0.05), (0.95, 0.0, 0.05), True),  # no room left
        ("higher", (0.8, 0.0, 0.2), (0.69, 0.0, 0.31), True),
        ("higher", (0.8, 0.0, 0.2), (0.9, 0.0, 0.1), False),
        ("higher", (0.05, 0.0, 0.95), (0.06, 0.0, 0.94), True),
        ("higher", (0.5, 0.0, 0.5), (0.4, 0.2, 0.4), False),  # neutral is half way
    ],
)
def test_an_answer_beside_the_one_before(
    expect: str, before: tuple[float, ...], now: tuple[float, ...], holds: bool
) -> None:
    assert EXPECTATIONS[expect].holds(heard(*now), heard(*before)) is holds


def test_a_refusal_is_unsure_and_nothing_else() -> None:
    refused = answer(Rejection("0", "record 0", "text", "cannot be read"), polarities_of(THREE))
    sure = heard(0.0, 0.0, 1.0)
    passed = {name for name, e in EXPECTATIONS.items() if e.holds(refused, sure)}
    assert passed == {"unsure"}
    assert str(refused) == "nothing (cannot be read)"


def test_labels_are_known_by_their_usual_names() -> None:
    assert polarities_of(["负面", "中性", "正面"]) == {
        "负面": "negative",
        "中性": "neutral",
        "正面": "positive",
    }
    assert polarities_of(["NEG", " Pos ", "anger"]) == {"NEG": "negative", " Pos ": "positive"}


# ---- asking a model ----------------------------------------------------------------------------


def test_a_real_model_is_asked_all_that_it_can_be(tiny: Checklist) -> None:
    assert [outcome.case for outcome in tiny.outcomes] == list(checklist.cases())
    neutral = [o for o in tiny.outcomes if o.case.expect == "neutral"]
    assert {o.skipped for o in neutral} == {"the model has no label for neutral"}, "it says fair"
    whole = checklist.tally(tiny.outcomes)
    assert (whole.n, whole.skipped) == (len(tiny.outcomes) - len(neutral), len(neutral))
    assert 0 < whole.failed < whole.n
    assert not any(o.failed for o in neutral)
    contrary = [o for o in tiny.outcomes if o.case.given.image or o.case.given.audio]
    assert all(o.said is not None for o in contrary)


def test_a_right_case_holds_and_a_wrong_one_fails(reader: moodal.Model) -> None:
    asked = [
        case("positive", "this film was superb"),
        case("negative", "this film was superb"),
        case("lower", "this film was awful", "this film was superb"),
        case("higher", "this film was awful", "this film was superb"),
        case("same", "this film was superb", "this film was awful"),
    ]
    found = checklist.run(reader, asked)
    assert [o.failed for o in found.outcomes] == [False, True, False, True, True]
    assert checklist.tally(found.outcomes).failure_rate == 3 / 5
    wrong = found.to_dict()["failures"][0]
    assert wrong["text"] == "this film was superb"
    assert (wrong["type"], wrong["expected"], wrong["said"]["label"]) == ("MFT", "negative", "good")


def test_a_text_that_says_nothing_is_an_unsure_answer() -> None:
    found = checklist.run(moodal.load(train_once()), [case("unsure", ""), case("positive", "")])
    assert [o.failed for o in found.outcomes] == [False, True]
    assert found.outcomes[1].said is not None
    assert found.outcomes[1].said.abstain


@pytest.mark.parametrize(
    ("info", "reasons"),
    [
        (Info(labels=()), {"the model answers with a number, not a label": 4}),
        (
            Info(kinds={"image": "picture"}),
            {"the model reads no text": 3, "the model reads no audio": 1},
        ),
        (
            Info(kinds={"text": "vectors", "audio": "vectors"}),
            {"the model reads no text but features": 3, "the model reads no audio but features": 1},
        ),
        (
            Info(labels=("joy", "anger")),
            {
                "the model has no label for neutral": 1,
                "the model has no label for negative, positive": 1,
                "the model reads no audio": 1,
            },
        ),
    ],
)
def test_what_cannot_be_asked_is_skipped_with_its_reason(
    info: Info, reasons: dict[str, int]
) -> None:
    asked = [
        case("neutral", "a"),
        case("higher", "a", "b"),
        case("same", "a", "b"),
        Case("words", "other", "unsure", Given(audio="silence")),
    ]
    model: Any = Said({"a": (0.5, 0.5), "b": (0.5, 0.5)}, info)
    found = checklist.run(model, asked)
    assert found.to_dict()["reasons_skipped"] == reasons
    whole = checklist.tally(found.outcomes)
    assert whole == Tally(n=4 - sum(reasons.values()), failed=0, skipped=sum(reasons.values()))


def test_a_model_of_two_labels_is_asked_all_but_what_is_neutral() -> None:
    asked = [
        case("not negative", "a"),
        case("neutral", "a"),
        case("negative", "b"),
        case("lower", "b", "a"),
    ]
    info = Info(labels=("消极", "积极"))
    model: Any = Said({"a": (0.2, 0.8), "b": (0.9, 0.1)}, info)
    found = checklist.run(model, asked)
    assert [(o.failed, bool(o.skipped)) for o in found.outcomes] == [
        (False, False),
        (False, True),
        (False, False),
        (False, False),
    ]


# ---- telling -----------------------------------------------------------------------------------


def test_the_numbers_of_a_capability_and_a_language_add_up(tiny: Checklist) -> None:
    report = json.loads(json.dumps(tiny.to_dict(), allow_nan=False))
    parts = report["capabilities"].values()
    for key in ("n", "failed", "skipped"):
        assert report[key] == sum(part[key] for part in parts)
        for part in (report, *parts):
            assert part[key] == sum(of_one[key] for of_one in part["languages"].values())
    assert len(report["failures"]) == report["failed"]
    assert report["failure_rate"] == report["failed"] / report["n"]
    assert report["capabilities"]["neutral facts"]["failure_rate"] is None, "none was asked"
    assert report["capabilities"]["negation"]["name_zh"] == "否定"


def test_the_table_is_aligned_though_chinese_is_two_wide(tiny: Checklist) -> None:
    lines = checklist.table(tiny).splitlines()
    rows = lines[2 : 2 + 1 + len(checklist.capability_names()) + 1]
    assert rows[0].startswith("capability 能力")
    assert rows[-1].startswith("all 合计")
    assert len({width(row) for row in rows}) == 1
    assert any(line.startswith("skipped 32: the model has no label") for line in lines)


def test_a_failed_pair_is_told_with_both_answers() -> None:
    model: Any = Said({"fine": (0.1, 0.1, 0.8), "very fine": (0.2, 0.3, 0.5)})
    told = checklist.table(checklist.run(model, [case("not lower", "very fine", "fine")]))
    assert told.splitlines()[-1] == (
        '  words: expected not lower; "very fine": positive 0.50, positivity 0.65; '
        '"fine": positive 0.80, positivity 0.85'
    )


def test_a_failed_picture_is_told_by_its_name() -> None:
    black = Case("outside", "other", "unsure", Given(image="black"))
    beside = Case("beside", "en", "positive", Given("superb", image="smile", audio="cheerful"))
    refused = "nothing (holds text, which is no sound)"
    wrong = answer(Rejection("0", "record 0", "", "holds text, which is no sound"), {})
    outcomes = tuple(Outcome(case, failed=True, said=wrong) for case in (black, beside))
    assert checklist.table(Checklist("m", outcomes)).splitlines()[-2:] == [
        f"  outside: expected unsure; black (image): {refused}",
        f'  beside: expected positive; "superb" + smile (image) + cheerful (audio): {refused}',
    ]


def test_the_list_is_written_as_it_is_printed(tiny: Checklist, tmp_path: Path) -> None:
    path = checklist.write(tiny, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "checklist.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(tiny.to_dict()))
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(DataError, match=r"checklist\.json: is a file"):
        checklist.write(tiny, path)
