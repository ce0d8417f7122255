"""Finalists: trained with every seed, never twice, resumed where stopped; one is kept whole."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from searches import MakePlan

from moodal import bundle, config
from moodal.tuning import finalists, ground
from moodal.tuning.finalists import Finalist
from moodal.tuning.ground import Ground
from moodal.tuning.plan import MODEL, RETRAINED, Plan
from moodal.tuning.space import varied


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    return make_plan("train.learning_rate=0.02", "train.epochs=2", seeds=2)


@pytest.fixture
def standing(plan: Plan) -> Ground:
    return ground.stand(plan)


def retrain(plan: Plan, standing: Ground) -> Finalist:
    return finalists.retrain(plan, standing, standing.run, name="defaults")


def stamps(folders: tuple[Path, ...]) -> list[int]:
    return [(folder / bundle.INFO).stat().st_mtime_ns for folder in folders]


def test_every_seed_has_a_model_that_was_judged_by_the_rows_tuned_on(
    plan: Plan, standing: Ground
) -> None:
    found = retrain(plan, standing)
    assert found.seeds == (0, 1)
    assert [f.name for f in found.folders] == ["defaults-seed-0", "defaults-seed-1"]
    for seed, folder in zip(found.seeds, found.folders, strict=True):
        info = bundle.verify(folder)
        made = config.load(folder / bundle.CONFIG)
        assert made.train.seed == seed
        assert made.train.learning_rate == 0.02
        assert info.data["valid"]["sha256"] == standing.halves.tuned_on.fingerprint()
        assert info.data["valid"]["rows"] == 40
    scores = found.on_tuned()
    assert scores == tuple(
        max(row["score"] for row in bundle.load(f).history) for f in found.folders
    )


def test_a_model_that_stands_is_not_trained_again_unless_it_is_another(
    plan: Plan, standing: Ground
) -> None:
    first = retrain(plan, standing)
    before = stamps(first.folders)
    assert stamps(retrain(plan, standing).folders) == before
    (first.folders[0] / bundle.HEAD).write_bytes(b"torn")
    other = finalists.retrain(
        plan, standing, varied(standing.run, {"train.l1": 0.001}), name="trial-3"
    )
    assert other.folders[0].name == "trial-3-seed-0"
    after = stamps(retrain(plan, standing).folders)
    assert after[0] != before[0], "it was damaged"
    assert after[1] == before[1]
    renamed = finalists.retrain(
        plan, standing, varied(standing.run, {"train.l1": 0.002}), name="trial-3"
    )
    assert config.load(renamed.folders[0] / bundle.CONFIG).train.l1 == 0.002


KILLED = """
import os, signal, sys
sys.path[:0] = {tests!r}
import searches
from pathlib import Path
from moodal import config
from moodal.training import checkpoint
from moodal.tuning import finalists, ground
from moodal.tuning.plan import Plan

plain = checkpoint.save
def save(folder, tensors, state):
    plain(folder, tensors, state)
    if state["epoch"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save = save
data, out = Path({data!r}), Path({out!r})
run = config.load(None, {settings!r})
plan = Plan(data / "train.jsonl", data / "valid.jsonl", out, run, seeds=1)
standing = ground.stand(plan)
finalists.retrain(plan, standing, standing.run, name="defaults")
"""


def test_a_finalist_whose_training_was_killed_goes_on(
    data: Path, tmp_path: Path, make_plan: MakePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    import searches

    given = ("train.learning_rate=0.02", "train.epochs=2")
    settings = (*searches.SETTINGS, f"cache={tmp_path / 'cache'}", *given)
    out, tests = tmp_path / "out", [str(Path(__file__).parent)]
    code = KILLED.format(tests=tests, data=str(data), out=str(out), settings=settings)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [p.name for p in (out / RETRAINED).iterdir()] == ["defaults-seed-0.training"]
    plan = make_plan(*given, seeds=1)
    standing = ground.stand(plan)
    resumed = retrain(plan, standing)
    assert "epoch 1/2" not in capsys.readouterr().err, "only the second was left to do"
    whole = make_plan(*given, seeds=1, out=tmp_path / "whole")
    for name in (bundle.WEIGHTS, bundle.HEAD):
        one, other = (
            (found.folders[0] / name).read_bytes() for found in (resumed, retrain(whole, standing))
        )
        assert one == other
    assert [p.name for p in (out / RETRAINED).iterdir()] == ["defaults-seed-0"]


def test_the_state_of_another_run_is_no_hindrance(plan: Plan, standing: Ground) -> None:
    first = retrain(plan, standing)
    state = plan.out / RETRAINED / "defaults-seed-0.training"
    state.mkdir()
    (state / "state.json").write_text("{}", encoding="utf-8")
    shutil.rmtree(first.folders[0])
    bundle.verify(retrain(plan, standing).folders[0])


def test_the_model_that_is_kept_is_the_best_by_the_rows_tuned_on(
    plan: Plan, standing: Ground
) -> None:
    found = retrain(plan, standing)
    scores = found.on_tuned()
    best = found.folders[scores.index(max(scores))]
    kept = finalists.keep(plan, found, "## Settings\n\nChosen among 9 trials.")
    assert kept == plan.out / MODEL
    info = bundle.verify(kept)
    assert info.name == plan.out.name
    for name in (bundle.HEAD, bundle.WEIGHTS, bundle.CONFIG, bundle.REFERENCE):
        assert (kept / name).read_bytes() == (best / name).read_bytes()
    card = (kept / bundle.CARD).read_text(encoding="utf-8")
    assert card.startswith(f"# {plan.out.name}\n")
    assert card.endswith("## Settings\n\nChosen among 9 trials.\n")
    before = stamps((kept,))
    finalists.keep(plan, found, "## Settings\n\nChosen among 9 trials.")
    assert stamps((kept,)) == before, "it stands already"
    finalists.keep(plan, found, "Other words.")
    assert bundle.read(kept, bundle.verify(kept), bundle.CARD).endswith(b"Other words.\n")
    assert yaml.safe_load((kept / bundle.CONFIG).read_bytes())["cache"] is None
