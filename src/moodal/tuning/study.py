"""The record of all trials, kept by Optuna in a database that survives a kill and may be shared.

Every error of the database becomes one of ours, so that nobody above need know SQLAlchemy.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna import logging
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from moodal.errors import CapacityError, ConfigError
from moodal.tuning.space import Choice, Int, LogFloat, Space, Values

BEAT_SECONDS, SILENCE_SECONDS = 10, 60
"""How often a running trial says that it lives; after this much silence another process takes it
over."""
PATIENCE_SECONDS = 60
"""How long to wait for SQLite's lock, which other processes hold for milliseconds."""
POLL_SECONDS = 1.0
OWN_TRIALS = 10
"""Trials drawn at random before any is drawn near the good ones. Source: TPESampler's default."""
UNPRUNED_TRIALS = 5
"""Trials that must be finished before one is ended early. Source: MedianPruner's default."""
UNPRUNED_SHARE = 0.2
"""Share of the epochs in which no trial is ended: a slow beginning is no bad end."""
LEAST_BEST = 5
"""Trials that importance calls the best, at least. Source: Optuna's PedAnovaImportanceEvaluator."""
DEFAULTS = "defaults"
"""Marks the trial of the settings that a run without tuning would have."""
_NAME = "moodal-"
_IDENTITY = "identity"

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Terms:
    """What trials are compared by. identity: what all of them share, JSON-safe: settings, data,
    space. seed: of what is drawn."""

    identity: Mapping[str, Any]
    seed: int
    n_epochs: int
    higher_is_better: bool


class _Drawn(BaseSampler):
    """TPE that draws a trial's settings from the seed, its number, and what is known by then.

    A process that goes on with a study does not draw the first ones again, and two processes never
    draw the same.
    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011), section 4;
    several settings at once: Falkner et al., BOHB (2018), section 3.2.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tpe = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        drawn = np.random.default_rng((self._seed, trial.number)).integers(2**31)
        self._tpe = TPESampler(seed=int(drawn), n_startup_trials=OWN_TRIALS)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


@contextmanager
def opened(url: str, terms: Terms, defaults: Values | None) -> Iterator[optuna.Study]:
    """The study of these terms in a database, created where there is none.

    url: sqlite:///FILE, or postgresql://... defaults: settings of the first trial; None = they lie
    outside the space.
    Raises: ConfigError for what is no such database, or holds another study; CapacityError while it
    is locked or cannot be reached, here and in the body.
    """
    with _told(url), _quiet():
        storage = _storage(url)
        try:
            _check_alone(storage, terms, _shown(url))
            study = _study(storage, terms)
            _enqueue_defaults(study, defaults)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def suggested(trial: optuna.Trial, space: Space) -> Values:
    """What a trial is to try; the same again, once it is drawn."""
    values: Values = {}
    for name, entry in space.entries.items():
        if isinstance(entry, Choice):
            values[name] = trial.suggest_categorical(name, entry.values)
        elif isinstance(entry, Int):
            values[name] = trial.suggest_int(name, entry.low, entry.high, step=entry.step)
        else:
            is_log = isinstance(entry, LogFloat)
            values[name] = trial.suggest_float(name, entry.low, entry.high, log=is_log)
    return values


def again(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Put a trial that was broken off back in the queue, with what it was to try, if that is known:
    it may have been broken off before it asked."""
    known = study.get_trials(deepcopy=False)[trial.number]
    attributes = {k: v for k, v in known.user_attrs.items() if k == DEFAULTS}
    values = {**known.system_attrs.get("fixed_params", {}), **known.params}
    study.enqueue_trial(values, user_attrs=attributes)


def take_over(study: optuna.Study) -> None:
    """Put the trials of processes that died back in the queue."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)


def wait(study: optuna.Study, say: Callable[[str], object]) -> None:
    """Wait for the trials that other processes run now, to their end or that of their process."""
    take_over(study)
    running = trials(study, TrialState.RUNNING)
    if running:
        names = ", ".join(str(trial.number) for trial in running)
        say(f"waiting for the trials of other processes: {names}")
    for trial in running:
        # A process that died before its first beat would never fall silent.
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    numbers = {trial.number for trial in running}
    while numbers & {trial.number for trial in trials(study, TrialState.RUNNING)}:
        time.sleep(POLL_SECONDS)
        take_over(study)


def trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def n_begun(study: optuna.Study) -> int:
    """Trials that count: finished, ended early, running."""
    return len(trials(study, *FINISHED, TrialState.RUNNING))


def are_defaults(trial: FrozenTrial | optuna.Trial) -> bool:
    return bool(trial.user_attrs.get(DEFAULTS))


def _storage(url: str) -> RDBStorage:
    try:
        parsed = sa.make_url(url)
        options: dict[str, Any] = {}
        if parsed.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": PATIENCE_SECONDS}}
        elif parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        return _made(parsed.render_as_string(hide_password=False), options)
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            f"storage {_shown(url)!r}: is no address of a database; write it as sqlite:///FILE or "
            "postgresql://USER@HOST/NAME"
        ) from error
    except ImportError as error:
        raise CapacityError(
            f"{_shown(url)}: needs a package that is not installed; pip install 'moodal[postgres]'"
        ) from error
    except RuntimeError as error:  # of its own making: another version of Optuna made the tables
        raise ConfigError(f"{_shown(url)}: {error}; name another with --storage") from error


def _made(url: str, options: dict[str, Any]) -> RDBStorage:
    for attempts_left in (2, 1, 0):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=BEAT_SECONDS,
                    grace_period=SILENCE_SECONDS,
                    heartbeat_stale_trial_callback=again,
                )
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
            # Another process may have made the tables at the same moment.
            if not attempts_left or not re.search("exist|UNIQUE", str(error)):
                raise
            time.sleep(POLL_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _check_alone(storage: RDBStorage, terms: Terms, place: str) -> None:
    """Raises: ConfigError where the database holds another study of ours."""
    for found in storage.get_all_studies():
        if found.study_name.startswith(_NAME) and found.study_name != _name(terms):
            theirs = found.user_attrs.get(_IDENTITY, {})
            differ = [k for k, mine in terms.identity.items() if theirs.get(k) != mine]
            raise ConfigError(
                f"{place}: holds the trials of other {', '.join(differ) or 'settings'}; use the "
                "same to go on with them, or name another place with --out or --storage"
            )


def _study(storage: RDBStorage, terms: Terms) -> optuna.Study:
    study = optuna.create_study(
        study_name=_name(terms),
        storage=storage,
        direction="maximize" if terms.higher_is_better else "minimize",
        sampler=_Drawn(terms.seed),
        pruner=MedianPruner(UNPRUNED_TRIALS, max(1, round(UNPRUNED_SHARE * terms.n_epochs))),
        load_if_exists=True,
    )
    study.set_user_attr(_IDENTITY, dict(terms.identity))
    return study


def _enqueue_defaults(study: optuna.Study, defaults: Values | None) -> None:
    there = trials(study, *FINISHED, TrialState.RUNNING, TrialState.WAITING)
    if not any(map(are_defaults, there)):
        study.enqueue_trial(defaults or {}, user_attrs={DEFAULTS: True})


def _name(terms: Terms) -> str:
    """The same for the same terms, so that whoever comes second finds what the first has made."""
    text = json.dumps(terms.identity, sort_keys=True, ensure_ascii=False)
    return _NAME + hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna writes a line a trial, and a stack for each that was broken off; we write our own."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Raises: ConfigError, CapacityError, for what the database says."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        text = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        if "not a database" in text:
            raise ConfigError(
                f"{_shown(url)}: is no database of trials; name another with --storage"
            ) from error
        why = f"cannot be read or written ({text}); mend that"
        if "locked" in text:
            why = "is locked by another program; close it"
        raise CapacityError(
            f"{_shown(url)}: {why} and run the same command again, nothing is lost, or name "
            "another place with --storage"
        ) from error


def _shown(url: str) -> str:
    """An address without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url


def importance(study: optuna.Study, names: Sequence[str]) -> dict[str, float]:
    """Setting -> its share in what sets the best tenth of the finished trials apart from all of
    them, but at least LEAST_BEST, the highest first; {} where fewer than twice these are finished.

    Source: Watanabe et al., PED-ANOVA (IJCAI 2023), section 3.
    """
    done = trials(study, TrialState.COMPLETE)
    shared = [name for name in names if any(name in trial.params for trial in done)]
    if len(done) < 2 * LEAST_BEST or not shared:
        return {}
    quantile = max(0.1, LEAST_BEST / len(done))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=shared)
    return {name: float(share) for name, share in found.items()}
