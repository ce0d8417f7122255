"""From a space to a model: trials, the best of them trained anew, compared, and one kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from moodal.bundle import writing
from moodal.config import Run
from moodal.errors import ConfigError
from moodal.evaluation import page
from moodal.runtime.lock import alone
from moodal.runtime.output import say
from moodal.runtime.predict import Model
from moodal.training.start import Parent
from moodal.tuning import compare, defaults, finalists, plan, report, space
from moodal.tuning import study as trials
from moodal.tuning.compare import Comparison
from moodal.tuning.finalists import Finalist
from moodal.tuning.ground import Ground, stand
from moodal.tuning.plan import BEST, SPACE, Plan, put
from moodal.tuning.result import Rows, State, Tried, Tuned, verdict
from moodal.tuning.search import WHY, Search
from moodal.tuning.space import Space, value, varied

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "ended early",
}


@dataclass(frozen=True, slots=True)
class _Searched:
    """space: what was searched; idle: what of it meant nothing. trials: all that count, by number;
    importance: of the settings."""

    space: Space
    idle: dict[str, str]
    trials: tuple[Tried, ...]
    importance: dict[str, float]


def tune(asked: Plan) -> Tuned:
    """Search for settings, and leave in the folder a model, a report and the best settings.

    Called again after it was stopped, by whatever, it goes on; called by several processes with one
    storage, each does a share of the trials, and one after the other makes the report.

    Raises: ConfigError, DataError, ModelError, CapacityError.
    """
    plan.check(asked)
    page.check_packages()
    given = space.load(asked.space, asked.run) if asked.space else None
    ground = stand(asked)
    here = ground.situation
    found, idle = defaults.that_matter(given, here) if given else (defaults.space(here), {})
    for name, why in idle.items():
        say(f"{name} is left out: {why}")
    searched = _search(asked, ground, found, idle)
    with alone(asked.out, "trains the finalists"):
        return _finish(asked, ground, searched)


def _search(asked: Plan, ground: Ground, found: Space, idle: dict[str, str]) -> _Searched:
    own = defaults.values_of(ground.run, found)
    task, out = ground.parts.task, asked.out
    terms = trials.Terms(
        identity=_identity(ground, found),
        seed=ground.run.train.seed,
        n_epochs=ground.run.train.epochs,
        higher_is_better=task.higher_is_better,
    )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    try:
        with trials.opened(asked.url, terms, own) as study:
            _write_space(asked, found)
            Search(study, ground, found, own).spend(asked.trials, asked.seconds)
            importance = trials.importance(study, list(found.entries))
            return _Searched(found, idle, _tried(study, task.higher_is_better), importance)
    finally:
        with suppress(OSError):  # it is empty where nothing was begun
            out.rmdir()


def _identity(ground: Ground, found: Space) -> dict[str, Any]:
    """What all trials of a study share."""
    settings = ground.run.model_dump(mode="json", exclude={"cache"})
    settings["train"].pop("threads")
    settings["train"].pop("checkpoint_seconds")
    return {
        "space": found.plain(),
        "settings": settings,
        "data": _hashes(ground),
        "models to start from": list(map(_sealed, ground.parents)),
    }


def _sealed(parent: Parent) -> str:
    return f"{parent.info.name} {parent.info.seal[:12]}"


def _hashes(ground: Ground) -> dict[str, str]:
    return {name: part.fingerprint() for name, part in ground.sources._asdict().items()}


def _write_space(asked: Plan, found: Space) -> None:
    """Raises: ConfigError where the folder holds a search of another space."""
    path, text = asked.out / SPACE, found.to_yaml()
    if path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")) != yaml.safe_load(text):
        raise ConfigError(
            f"{asked.out}: holds a search of another space ({SPACE}); name a new folder with --out"
        )
    put(path, f"# What was searched. Edit a copy and give it with --space.\n{text}")


def _tried(study: optuna.Study, higher_is_better: bool) -> tuple[Tried, ...]:
    best = max if higher_is_better else min

    def tried(trial: FrozenTrial) -> Tried:
        scores, why = trial.intermediate_values.values(), trial.user_attrs.get(WHY, "")
        return Tried(
            number=trial.number,
            state="impossible" if why else _STATES[trial.state],
            score=best(scores) if scores and not why else None,
            epochs=len(scores),
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            settings=dict(trial.params),
            is_default=trials.are_defaults(trial),
            why=why,
        )

    return tuple(map(tried, trials.trials(study, *trials.FINISHED)))


def _finish(asked: Plan, ground: Ground, searched: _Searched) -> Tuned:
    """Train the finalists, compare them, keep one, and write all that people and programs read."""
    best = _best(searched, ground.parts.task.higher_is_better)
    own = {name: value(ground.run, name) for name in searched.space.entries}
    settings = own if best.is_default else best.settings
    run = ground.run if best.is_default else varied(ground.run, settings)
    default = finalists.retrain(asked, ground, ground.run, name="defaults")
    winner, failure = _winner(asked, ground, run, best)
    comparison = _compare(ground, default, winner) if winner else None
    kept = winner if winner and comparison and comparison.is_better else default
    tuned = Tuned(
        name=asked.out.name,
        task=ground.parts.task.name,
        metric=ground.parts.task.goal,
        higher_is_better=ground.parts.task.higher_is_better,
        trials=searched.trials,
        best=best.number,
        settings=settings,
        defaults=own,
        importance=searched.importance,
        comparison=comparison,
        failure=failure,
        tuned={"defaults": default.on_tuned()} | ({"best": winner.on_tuned()} if winner else {}),
        seeds=default.seeds,
        kept="defaults" if kept is default else "best",
        model=asked.out / plan.MODEL,
        rows=_rows(asked, ground),
        space=searched.space.plain(),
        idle=searched.idle,
    )
    _write(asked, tuned, kept, run)
    return tuned


def _best(searched: _Searched, higher_is_better: bool) -> Tried:
    """The first of the best: the defaults, where none is better."""
    sign = 1.0 if higher_is_better else -1.0
    finished = [trial for trial in searched.trials if trial.state == "finished"]
    return max(finished, key=lambda t: (sign * float(t.score or 0.0), t.is_default, -t.number))


def _winner(asked: Plan, ground: Ground, run: Run, best: Tried) -> tuple[Finalist | None, str]:
    """The best settings trained with every seed; None where they are the defaults, or why not."""
    if best.is_default:
        return None, ""
    try:
        return finalists.retrain(asked, ground, run, name=f"trial-{best.number}"), ""
    except ConfigError as error:  # with another seed it diverges
        return None, str(error)


def _compare(ground: Ground, default: Finalist, winner: Finalist) -> Comparison:
    say(f"comparing {winner.name} with the defaults on {ground.halves.compared_on.name}")
    return compare.compare(
        [Model(folder) for folder in default.folders],
        [Model(folder) for folder in winner.folders],
        lambda: ground.halves.compared_on.records(ground.run.columns),
        seeds=default.seeds,
        seed=ground.run.train.seed,
    )


def _rows(asked: Plan, ground: Ground) -> Rows:
    return Rows(
        train=asked.file.name,
        valid=asked.valid.name,
        tuned_on=len(ground.parts.valid),
        rule=ground.halves.rule,
        sha256=_hashes(ground) | {"compared on": ground.halves.compared_on.fingerprint()},
    )


def _write(asked: Plan, tuned: Tuned, kept: Finalist, run: Run) -> None:
    said = verdict(tuned)[0]
    finalists.keep(asked, kept, f"## Settings\n\nChosen among {len(tuned.trials)} trials. {said}")
    put(asked.out / BEST, _best_yaml(tuned, run, said))
    report.write(tuned, asked.out)


def _best_yaml(tuned: Tuned, run: Run, said: str) -> str:
    """All settings of the best trial, as `moodal train --config` takes them."""
    plain: Mapping[str, Any] = run.model_dump(mode="json", exclude={"cache"})
    lines = (f"#   {name}: {old} -> {new}\n" for name, old, new in report.changed(tuned))
    head = f"# Trial {tuned.best} of {tuned.name}. {said}\n# Other than the defaults:\n"
    return head + "".join(lines) + yaml.safe_dump(dict(plain), allow_unicode=True, sort_keys=False)
