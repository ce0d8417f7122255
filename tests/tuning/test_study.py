"""The record of trials: shared, kept through kills, and never mixed with another search's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from moodal.errors import CapacityError, ConfigError
from moodal.tuning import study as trials
from moodal.tuning.space import Choice, Float, Int, LogFloat, Space, Values
from moodal.tuning.study import Terms

SPACE = Space(
    entries={
        "rate": LogFloat(low=0.001, high=1),
        "share": Float(low=0, high=1),
        "layers": Int(low=1, high=5, step=2),
        "kind": Choice(values=("a", "b", None)),
    }
)
OWN: Values = {"rate": 0.01, "share": 0.5, "layers": 3, "kind": None}
TERMS = Terms({"data": "d", "space": SPACE.plain()}, seed=0, n_epochs=10, higher_is_better=True)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trials.db'}"


def score(trial: optuna.Trial) -> float:
    values = trials.suggested(trial, SPACE)
    return float(values["share"] or 0) - abs(float(values["rate"] or 0) - 0.1)


def run(url: str, n: int, terms: Terms = TERMS, own: Values | None = OWN) -> list[dict[str, Any]]:
    with trials.opened(url, terms, own) as study:
        for _ in range(n):  # one by one, as Search does
            study.optimize(score, n_trials=1)
        return [trial.params for trial in study.get_trials(deepcopy=False)]


def test_the_defaults_are_the_first_trial_and_come_once(url: str) -> None:
    assert run(url, 1) == [OWN]
    assert run(url, 1)[0] == OWN
    with trials.opened(url, TERMS, OWN) as study:
        marked = [t.number for t in study.get_trials() if trials.are_defaults(t)]
    assert marked == [0]


def test_drawn_values_lie_in_the_space(url: str) -> None:
    for params in run(url, 12):
        assert params.keys() == SPACE.entries.keys()
        assert all(SPACE.entries[name].holds(value) for name, value in params.items())


def test_a_search_that_goes_on_draws_what_one_that_never_stopped_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what another seed would not: each trial's draw hangs on the seed and its number."""
    monkeypatch.setattr(trials, "OWN_TRIALS", 3)
    whole = run(f"sqlite:///{tmp_path / 'whole.db'}", 5)
    parted = f"sqlite:///{tmp_path / 'parted.db'}"
    for n in (2, 1, 2):
        found = run(parted, n)
    assert found == whole
    other = run(f"sqlite:///{tmp_path / 'other.db'}", 2, replace(TERMS, seed=1))
    assert other[0] == whole[0]
    assert other[1] != whole[1]
    assert len({str(params) for params in whole}) == len(whole)


def test_another_space_or_data_in_the_same_storage_is_refused_by_name(url: str) -> None:
    run(url, 1)
    for differing in ({"data": "e"}, {"space": {}}):
        other = replace(TERMS, identity={**TERMS.identity, **differing})
        said = f"holds the trials of other {next(iter(differing))}; use the same to go on"
        with (
            pytest.raises(ConfigError, match=said),
            trials.opened(url, other, OWN),
        ):
            pass
    assert len(run(url, 1)) == 2, "nothing was lost"


def test_a_locked_storage_is_said_and_nothing_is_lost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(url, 1)
    monkeypatch.setattr(trials, "PATIENCE_SECONDS", 0.2)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CapacityError, match=r"trials\.db: is locked by another program; close"):
            run(url, 1)
        other.execute("COMMIT")
        with trials.opened(url, TERMS, OWN) as study:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(CapacityError, match="locked"), trials._told(url):
                study.optimize(score, n_trials=1)
            other.execute("ROLLBACK")
    finally:
        other.close()
    assert run(url, 1)[0] == OWN


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("trials.db", ConfigError, "'trials.db': is no address of a database; write it as sqlite"),
        ("oracle9://x", ConfigError, "is no address of a database"),
        ("sqlite:////nowhere/t.db", CapacityError, "cannot be read or written .unable to open"),
        ("mysql://me:secret@host/db", CapacityError, "needs a package that is not installed"),
        ("sqlite:///{tmp}/thesis.txt", ConfigError, "thesis.txt: is no database of trials; name"),
    ],
)
def test_what_is_no_storage_is_said(
    tmp_path: Path, given: str, error: type[Exception], said: str
) -> None:
    (tmp_path / "thesis.txt").write_text("All happy families are alike. " * 50, encoding="utf-8")
    with pytest.raises(error, match=said) as caught:
        run(given.replace("{tmp}", str(tmp_path)), 1)
    assert "secret" not in str(caught.value)
    assert "All happy" in (tmp_path / "thesis.txt").read_text(encoding="utf-8")


DIES = """
import os, sys
from moodal.tuning import study as trials
sys.path.insert(0, {tests!r})
from test_study import OWN, SPACE, TERMS
trials.BEAT_SECONDS, trials.SILENCE_SECONDS = 1, 1
with trials.opened({url!r}, TERMS, OWN) as study:
    {before}
    study.optimize(lambda trial: os._exit(9), n_trials=1)
"""


@pytest.mark.parametrize("before", ["pass", "study.ask(); os._exit(9)"], ids=["in it", "at once"])
def test_the_trial_of_a_process_that_died_is_run_again(
    url: str, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Also where it died before it said for the first time that it lives."""
    code = DIES.format(tests=str(Path(__file__).parent), url=url, before=before)
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert died.returncode == 9, died.stderr.decode()
    monkeypatch.setattr(trials, "BEAT_SECONDS", 1)
    monkeypatch.setattr(trials, "SILENCE_SECONDS", 1)
    monkeypatch.setattr(trials, "POLL_SECONDS", 0.1)
    told: list[str] = []
    with trials.opened(url, TERMS, OWN) as study:
        assert trials.n_begun(study) == 1
        trials.wait(study, told.append)
        assert told == ["waiting for the trials of other processes: 0"]
        assert [t.state for t in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
        study.optimize(score, n_trials=1)
        again = study.get_trials()[-1]
    assert again.params == OWN
    assert trials.are_defaults(again)
    assert len(run(url, 0)) == 2, "and not queued once more"


def test_no_trial_of_a_living_process_is_waited_for_when_none_runs(url: str) -> None:
    with trials.opened(url, TERMS, OWN) as study:
        study.optimize(score, n_trials=1)
        told: list[str] = []
        trials.wait(study, told.append)
    assert told == []


def test_a_study_may_be_kept_in_postgresql(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres()
    assert run(url, 1) == [OWN]
    assert len(run(url, 2)) == 3
    with pytest.raises(ConfigError, match="holds the trials of other data"):
        run(url, 1, replace(TERMS, identity={**TERMS.identity, "data": "e"}))
    code = DIES.format(tests=str(Path(__file__).parent), url=url, before="pass")
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert died.returncode == 9, died.stderr.decode()
    for name in ("BEAT_SECONDS", "SILENCE_SECONDS"):
        monkeypatch.setattr(trials, name, 1)
    with trials.opened(url, TERMS, OWN) as study:
        trials.wait(study, lambda line: None)
        states = [trial.state for trial in study.get_trials()]
    assert states[-2:] == [TrialState.FAIL, TrialState.WAITING]


def reporting(values: list[float]) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        trials.suggested(trial, SPACE)
        for step, value in enumerate(values, 1):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return max(values)

    return objective


def test_a_trial_below_the_median_is_ended_but_not_in_its_first_epochs(url: str) -> None:
    with trials.opened(url, TERMS, OWN) as study:  # 10 epochs: none is ended in the first two
        for _ in range(trials.UNPRUNED_TRIALS):
            study.optimize(reporting([0.5, 0.6, 0.7]), n_trials=1)
        study.optimize(reporting([0.1, 0.1, 0.9]), n_trials=1)
        study.optimize(reporting([0.1, 0.9, 0.1]), n_trials=1)
        first, second = study.get_trials()[-2:]
    assert first.state == TrialState.PRUNED
    assert list(first.intermediate_values) == [1, 2]
    assert second.state == TrialState.COMPLETE, "its best so far counts"


def test_importance_finds_the_one_setting_that_matters() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: float(trials.suggested(t, SPACE)["share"] or 0), n_trials=9)
    assert trials.importance(study, list(SPACE.entries)) == {}
    study.optimize(lambda t: float(trials.suggested(t, SPACE)["share"] or 0), n_trials=31)
    found = trials.importance(study, list(SPACE.entries))
    assert next(iter(found)) == "share"
    assert sum(found.values()) == pytest.approx(1)
    assert found["share"] > 0.5
