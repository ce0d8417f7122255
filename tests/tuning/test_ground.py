"""Which rows choose and which compare; what trials share is read once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
from searches import MakePlan, vectors
from tiny import SETTINGS

from moodal import config
from moodal.errors import DataError
from moodal.training import read as reading
from moodal.training.read import Part
from moodal.training.run import try_out
from moodal.tuning import ground
from moodal.tuning.plan import Plan
from moodal.tuning.space import Values, varied
from moodal.types import Record


def records(part: Part) -> list[Record]:
    return [r for r in part.records(config.Columns()) if isinstance(r, Record)]


def test_half_of_the_rows_chooses_and_the_other_compares(make_plan: MakePlan) -> None:
    halves = ground.halve(make_plan())
    one, other = records(halves.tuned_on), records(halves.compared_on)
    assert not {r.id for r in one} & {r.id for r in other}
    assert len({r.id for r in (*one, *other)}) == 80
    for half in (one, other):
        assert Counter(r.target for r in half) == {"good": 20, "bad": 20}
    assert halves.rule == "stratified by label"


def test_a_group_stands_in_one_half_alone(make_plan: MakePlan, tmp_path: Path) -> None:
    data = vectors(tmp_path / "grouped", groups=12)
    halves = ground.halve(make_plan(valid=data / "valid.jsonl"))
    one, other = (
        {r.group for r in records(part)} for part in (halves.tuned_on, halves.compared_on)
    )
    assert one
    assert other
    assert not one & other
    assert halves.rule == "whole groups"


def test_the_seed_says_which_half_is_which(make_plan: MakePlan) -> None:
    found = [
        [r.id for r in records(ground.halve(make_plan(f"train.seed={seed}")).compared_on)]
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_whole_of_the_rows_does_both_where_that_is_asked(make_plan: MakePlan) -> None:
    halves = ground.halve(make_plan(whole=True))
    assert halves.tuned_on.fingerprint() == halves.compared_on.fingerprint()
    assert len(records(halves.tuned_on)) == 80
    assert halves.rule == ""


def test_too_few_rows_to_part_say_what_else_can_be_done(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    line = json.dumps({"text": [1, 2, 3], "label": "good"})
    (tmp_path / "one.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"one\.jsonl: .* --whole tunes and compares on all"):
        ground.halve(make_plan(valid=tmp_path / "one.jsonl"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Texts, pictures and tones."""
    data = tiny.rows(tmp_path_factory.mktemp("media") / "data", 16)
    settings = (*SETTINGS, "train.epochs=1", f"cache={data.parent / 'cache'}")
    run = config.load(None, settings)
    return Plan(data / "train.csv", data / "dev.csv", data.parent / "out", run)


@pytest.fixture(scope="module")
def standing(media: Plan) -> ground.Ground:
    return ground.stand(media)


CHANGES: tuple[Values, ...] = (
    {
        "text.word_dropout": 0.5,
        "image.crop": 0.4,
        "image.flip": 0.0,
        "audio.mask_time": 0.4,
        "audio.speed": 0.0,
        "train.l2": 0.1,
    },
    {"text.max_tokens": 4, "image.size": 16, "audio.n_mels": 8},
)


@pytest.mark.parametrize("values", CHANGES, ids=["augmentation", "reading"])
def test_a_trial_sees_the_rows_as_if_they_were_read_for_it_alone(
    standing: ground.Ground, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = varied(standing.run, values)
    anew = reading.read(standing.sources, run, None)
    n_read = 0
    plain = reading.read

    def counted(*given: object) -> object:
        nonlocal n_read
        n_read += 1
        return plain(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read", counted)
    parts = standing.parts_for(run, values)
    assert n_read == ("text.max_tokens" in values), "only where it must"
    found, wanted = (try_out(p, run, watch=lambda row, words: None)[0] for p in (parts, anew))
    for name in ("train_loss", "valid_loss", "score"):
        assert found[name] == wanted[name]
    plainly = try_out(standing.parts, standing.run, watch=lambda row, words: None)[0]
    assert plainly["train_loss"] != found["train_loss"]


def test_every_augmentation_is_known_as_one(standing: ground.Ground) -> None:
    """A setting is read anew for unless the decoded rows are the same without it."""
    described = {
        f"{stage}.{name}"
        for stage in ("text", "image", "audio")
        for name in type(getattr(standing.run, stage)).model_fields
    }
    assert len({name for name in described if ground.UNREAD.fullmatch(name)}) == 13


def test_what_is_read_says_what_means_something(standing: ground.Ground) -> None:
    here = standing.situation
    assert dict(here.kinds) == {"text": "tokens", "image": "picture", "audio": "frames"}
    assert here.has_labels
    assert here.inherited == ()
    assert standing.run.text_encoder.kind == "bag"
    assert standing.halves.rule == "whole groups"
    assert len(standing.parts.valid) == sum(1 for _ in records(standing.halves.tuned_on))
    assert np.isin(standing.parts.valid.codes, (0, 1, 2)).all()
