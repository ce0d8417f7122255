"""Trials, one after the other, until there are enough or the time is up."""

from __future__ import annotations

import time
from collections.abc import Mapping

import optuna
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from moodal.errors import ConfigError, DataError
from moodal.runtime.output import say
from moodal.training.loop import Watch
from moodal.training.run import try_out
from moodal.tuning import study as trials
from moodal.tuning.ground import Ground
from moodal.tuning.space import Space, Values, varied

WHY = "why"
"""Attribute of a trial whose settings cannot be trained."""


class BrokenOff(Exception):  # noqa: N818
    """A trial that does not count: the time is up, or others have begun the last ones."""


class Search:
    """One process's share of the trials of a study.

    defaults: what the run itself is within the space; None = it lies outside.
    """

    def __init__(
        self, study: optuna.Study, ground: Ground, space: Space, defaults: Values | None
    ) -> None:
        self._study, self._ground, self._space, self._defaults = study, ground, space, defaults
        self._n_trials, self._until = 0, float("inf")
        task = ground.parts.task
        self._goal, self._better = task.goal, max if task.higher_is_better else min

    def spend(self, n_trials: int, seconds: float | None) -> None:
        """Run trials. A trial that was broken off, here or elsewhere, is run again; the defaults
        are run to their end whatever the time.

        n_trials: in all, of every process. seconds: from now on; None = no limit.
        Raises: ConfigError and DataError of the defaults; CapacityError.
        """
        self._n_trials = n_trials
        self._until = time.monotonic() + (float("inf") if seconds is None else seconds)
        with tqdm(total=n_trials, desc="tuning", unit=" trials", disable=None) as self._bar:
            while True:
                while self._goes_on():
                    self._one()
                trials.wait(self._study, say)
                if not self._goes_on():
                    return

    def _goes_on(self) -> bool:
        if any(map(trials.are_defaults, trials.trials(self._study, TrialState.WAITING))):
            return True
        return time.monotonic() < self._until and trials.n_begun(self._study) < self._n_trials

    def _one(self) -> None:
        try:
            self._study.optimize(
                self._trial, n_trials=1, catch=(BrokenOff,), callbacks=[self._tell]
            )
        except (UpdateFinishedTrialError, ValueError) as error:
            if isinstance(error, ValueError) and not str(error).startswith("Cannot tell a"):
                raise
            say("a trial of this process was silent for so long that another took it over")

    def _trial(self, trial: optuna.Trial) -> float:
        begun = trials.trials(self._study, *trials.FINISHED, TrialState.RUNNING)
        if sum(other.number < trial.number for other in begun) >= self._n_trials:
            raise BrokenOff("other processes have begun the last trials")
        if trials.are_defaults(trial) and any(
            trials.are_defaults(other) and other.number < trial.number for other in begun
        ):  # two processes that opened the study at one moment have each put them in the queue
            raise BrokenOff("another trial is that of the defaults")
        try:
            return self._score(trial)
        except (TrialPruned, UpdateFinishedTrialError):
            raise
        except BaseException:
            trials.again(self._study, trial)
            raise

    def _score(self, trial: optuna.Trial) -> float:
        is_default = trials.are_defaults(trial)
        run, values = self._ground.run, Values()
        try:
            if not is_default or self._defaults is not None:
                values = trials.suggested(trial, self._space)
            run = run if is_default else varied(run, values)
            parts = self._ground.parts_for(run, {} if is_default else values)
            watch = self._watch(trial, n_epochs=run.train.epochs)
            history = try_out(parts, run, parents=self._ground.parents, watch=watch)
        except (ConfigError, DataError) as error:
            if is_default:
                raise
            trial.set_user_attr(WHY, str(error))
            raise TrialPruned(str(error)) from error
        return self._better(row["score"] for row in history)

    def _watch(self, trial: optuna.Trial, *, n_epochs: int) -> Watch:
        is_default = trials.are_defaults(trial)

        def watch(row: Mapping[str, float], words: str) -> None:
            self._bar.set_postfix_str(f"trial {trial.number}, {words}")
            trial.report(row["score"], int(row["epoch"]))
            if is_default or row["epoch"] >= n_epochs:
                return
            if trial.should_prune():
                raise TrialPruned
            if time.monotonic() >= self._until:
                raise BrokenOff("the time is up")

        return watch

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A line for people."""
        done = trials.trials(study, *trials.FINISHED)
        self._bar.n = len(done)
        self._bar.refresh()
        name = f"trial {trial.number}" + (" (the defaults)" if trials.are_defaults(trial) else "")
        if WHY in trial.user_attrs:
            say(f"{name}: cannot be trained: {trial.user_attrs[WHY]}")
        elif trial.state in trials.FINISHED:
            ended = "" if trial.state == TrialState.COMPLETE else "ended early, "
            scores = trial.intermediate_values.values()
            seconds = trial.duration.total_seconds() if trial.duration else 0.0
            whole = [
                v for t in done if t.state == TrialState.COMPLETE and (v := t.value) is not None
            ]
            best = f"; the best {self._better(whole):.3f}" if whole else ""
            say(
                f"{name}: {ended}{self._goal} {self._better(scores):.3f} after {len(scores)} "
                f"epochs, {seconds:.0f} s{best}"
            )
