"""Trials: bad ones end early, impossible ones are counted, broken ones are run again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from searches import MakePlan

from moodal.config import Run
from moodal.errors import ConfigError, DataError
from moodal.tuning import defaults, ground, search, space
from moodal.tuning import study as trials
from moodal.tuning.plan import Plan
from moodal.tuning.search import WHY, Search

RATES = {"train.learning_rate": {"kind": "log-float", "low": 1e-4, "high": 0.1}}
Scores = Callable[[Run], Sequence[float]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scores], list[Run]]:
    """Trials score what a function of their run says, epoch by epoch, without training."""

    def script(scores: Scores) -> list[Run]:
        tried: list[Run] = []

        def try_out(parts: Any, run: Run, *, parents: Any, watch: Any) -> list[dict[str, float]]:
            tried.append(run)
            history = []
            for epoch, score in enumerate(scores(run), 1):
                history.append({"epoch": epoch, "score": score})
                watch(history[-1], f"epoch {epoch}")
            return history

        monkeypatch.setattr(search, "try_out", try_out)
        return tried

    return script


@contextmanager
def searching(
    plan: Plan, entries: Mapping[str, Any] = RATES
) -> Iterator[tuple[Search, optuna.Study]]:
    standing = ground.stand(plan)
    found = space.parse(entries, standing.run, name="s")
    own = defaults.values_of(standing.run, found)
    task = standing.parts.task
    terms = trials.Terms({}, 0, standing.run.train.epochs, task.higher_is_better)
    plan.out.mkdir(exist_ok=True)
    with trials.opened(plan.url, terms, own) as study:
        yield Search(study, standing, found, own), study


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def of(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return [t for t in study.get_trials(deepcopy=False) if t.state == state]


def test_there_are_as_many_trials_as_asked_for_and_the_first_has_the_defaults(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan()
    tried = scripted(lambda run: [0.5, run.train.learning_rate])
    with searching(plan) as (one, study):
        one.spend(4, None)
        assert len(tried) == 4
        assert tried[0] == defaults.resolved(plan.run, {"text": "vectors"})
        assert tried[0].train.learning_rate == study.get_trials()[0].params["train.learning_rate"]
        assert len({run.train.learning_rate for run in tried}) == 4
        assert {run.train.seed for run in tried} == {0}
        one.spend(4, None)
        assert len(tried) == 4, "there are enough"
        one.spend(6, None)
        assert len(tried) == 6
        assert study.best_value == 0.5, "of the best epoch"
    lines = capsys.readouterr().err.splitlines()
    said = r"trial 0 \(the defaults\): macro_f1 0\.500 after 2 epochs, \d+ s; the best 0\.500"
    assert re.fullmatch(said, lines[0])


def test_a_bad_trial_is_ended_early_but_never_the_defaults(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "UNPRUNED_TRIALS", 2)
    monkeypatch.setattr(trials, "_enqueue_defaults", lambda *_: None)  # they come last here
    plan = make_plan("train.epochs=4")
    bad = [0.1, 0.1, 0.1, 0.2]
    with searching(plan) as (one, study):
        scripted(lambda run: [0.5, 0.6, 0.7, 0.8])
        one.spend(3, None)
        scripted(lambda run: bad)
        one.spend(4, None)
        last = study.get_trials()[-1]
        assert last.state == TrialState.PRUNED
        assert len(last.intermediate_values) < len(bad)
        study.enqueue_trial({}, user_attrs={trials.DEFAULTS: True})
        one.spend(5, None)
        last = study.get_trials()[-1]
        assert last.state == TrialState.COMPLETE
        assert list(last.intermediate_values.values()) == bad


@pytest.mark.parametrize("error", [ConfigError, DataError])
def test_settings_that_cannot_be_trained_are_counted_with_the_reason(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]], error: type[Exception]
) -> None:
    own = make_plan().run.train.learning_rate

    def scores(run: Run) -> list[float]:
        if run.train.learning_rate != own:
            raise error("the run has diverged")
        return [0.5]

    scripted(scores)
    with searching(make_plan()) as (one, study):
        one.spend(3, None)
        assert states(study) == ["COMPLETE", "PRUNED", "PRUNED"]
        assert study.get_trials()[1].user_attrs == {WHY: "the run has diverged"}


def test_values_that_do_not_go_together_are_counted_too(make_plan: MakePlan) -> None:
    """Each alone is one that a run accepts."""
    entries = {
        "text_encoder.width": {"kind": "choice", "values": [10, 8]},
        "text_encoder.heads": {"kind": "choice", "values": [2, 4]},
    }
    with searching(make_plan("train.epochs=1"), entries) as (one, study):
        one.spend(4, None)
        whys = [t.user_attrs[WHY] for t in study.get_trials() if WHY in t.user_attrs]
    assert set(whys) == {"text_encoder.heads=4 does not divide text_encoder.width=10"}


def test_defaults_that_cannot_be_trained_are_an_error_and_tried_again(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]]
) -> None:
    def scores(run: Run) -> list[float]:
        raise ConfigError("the run has diverged")

    scripted(scores)
    with searching(make_plan()) as (one, study):
        with pytest.raises(ConfigError, match="diverged"):
            one.spend(3, None)
        assert states(study) == ["FAIL", "WAITING"]
        scripted(lambda run: [0.5])
        one.spend(3, None)
        assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
        assert trials.are_defaults(study.get_trials()[1])


def test_a_trial_that_is_stopped_is_run_again_with_the_same_settings(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]]
) -> None:
    def stopping(run: Run) -> Sequence[float]:
        if len(tried) == 2:
            raise KeyboardInterrupt
        return [0.5]

    tried = scripted(stopping)
    with searching(make_plan()) as (one, study):
        with pytest.raises(KeyboardInterrupt):
            one.spend(3, None)
        again = scripted(lambda run: [0.5])
        one.spend(3, None)
        assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert again[0] == tried[1]
    assert len(again) == 2


def test_the_defaults_are_run_whatever_the_time_and_nothing_else_after_it(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]]
) -> None:
    scripted(lambda run: [0.5, 0.6, 0.7])
    with searching(make_plan()) as (one, study):
        one.spend(9, 0.0)
        assert states(study) == ["COMPLETE"]
        assert len(study.get_trials()[0].intermediate_values) == 3


def test_a_trial_whose_time_is_up_is_broken_off_and_run_again_later(
    make_plan: MakePlan,
    scripted: Callable[[Scores], list[Run]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(search.time, "monotonic", lambda: now[0])

    def slow(run: Run) -> Iterator[float]:
        for score in (0.5, 0.6, 0.7):
            now[0] += 1
            yield score

    tried = scripted(slow)  # type: ignore[arg-type]
    with searching(make_plan()) as (one, study):
        one.spend(9, 5.0)  # three epochs of the defaults, two of the next
        assert states(study) == ["COMPLETE", "FAIL", "WAITING"]
        one.spend(2, 60.0)
        assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert tried[1] == tried[2]


def test_no_more_trials_are_run_than_asked_for_where_others_began_the_last(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = scripted(lambda run: [0.5])
    with searching(make_plan()) as (one, study):
        one.spend(2, None)
        monkeypatch.setattr(Search, "_goes_on", lambda self: len(study.get_trials()) < 4)
        one.spend(3, None)  # as if another process had counted at the same moment
        assert states(study) == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert len(tried) == 3


def test_a_trial_that_another_process_took_over_is_left_to_it(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    with searching(make_plan()) as (one, study):

        def silent(run: Run) -> Iterator[float]:
            if not of(study, TrialState.FAIL):  # as take_over does
                running = of(study, TrialState.RUNNING)[0]
                study._storage.set_trial_state_values(running._trial_id, TrialState.FAIL)
                trials.again(study, running)
            yield 0.5

        scripted(silent)  # type: ignore[arg-type]
        one.spend(2, None)
        assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "silent for so long that another took it over" in capsys.readouterr().err


def test_defaults_outside_the_space_are_tried_as_they_are(
    make_plan: MakePlan, scripted: Callable[[Scores], list[Run]]
) -> None:
    plan = make_plan()
    tried = scripted(lambda run: [0.5])
    outside = {"train.learning_rate": {"kind": "log-float", "low": 0.01, "high": 0.1}}
    with searching(plan, outside) as (one, study):
        one.spend(2, None)
        assert study.get_trials()[0].params == {}
    assert tried[0].train.learning_rate == plan.run.train.learning_rate
    assert tried[1].train.learning_rate >= 0.01
