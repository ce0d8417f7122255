"""From a model to a smaller and faster one: step by step, each judged before the next builds on it.

OUT/steps/1-distil/        the bundle of a step
OUT/steps/1-distil.json    what it was made from, what it did, how it was judged; written last
OUT/model/                 the bundle that is handed on
OUT/report.html, report.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moodal import bundle
from moodal.bundle import writing
from moodal.compress import distil, plan, prune, quantise, report
from moodal.compress.judge import Measured, judge, misses, stands
from moodal.compress.plan import MODEL, Plan
from moodal.compress.result import Compressed, Step
from moodal.errors import ConfigError, ModelError
from moodal.evaluation import page
from moodal.runtime import output
from moodal.runtime.lock import LOCK, alone
from moodal.runtime.output import say
from moodal.tasks import TASKS
from moodal.training.read import parts_of

Do = Callable[[Plan, Path, Path], dict[str, Any]]


DO: dict[str, Do] = {
    "distil": distil.step,
    "prune": prune.step,
    "prune-weights": prune.weights_step,
    "quantise": quantise.step,
}
"""Step -> (plan, the bundle it begins with, the bundle it writes) -> facts."""


def compress(asked: Plan) -> Compressed:
    """Do the steps, and leave in the folder what each has made, a model and a report.

    Called again after it was stopped, by whatever, it goes on with the step that was broken off;
    called by two processes at once, the second waits and finds the steps done.

    Raises: ConfigError, DataError, ModelError, CapacityError.
    """
    plan.check(asked, list(DO))
    page.check_packages()
    parent = bundle.verify(asked.model)
    if "quantise" in asked.steps[:-1]:
        raise ConfigError(
            f"--steps {','.join(asked.steps)}: quantise comes last, since what is trained after it "
            "has float weights again"
        )
    identity = _identity(asked, parent)
    say(f"measuring {asked.model}")
    begun, before = asked.model, judge(asked, asked.model)
    with alone(asked.out / plan.STEPS, f"compresses into {asked.out}"):
        _sweep(asked.out)
        steps: list[Step] = []
        for number, name in enumerate(asked.steps, 1):
            step = _step(asked, name, asked.folder(number), begun, identity)
            steps.append(step)
            begun = step.folder if step.stands else begun
        return _finish(asked, parent, before, tuple(steps))


def _sweep(out: Path) -> None:
    """Take away what a run that was killed had not yet renamed."""
    with writing(out):
        for place in (out, out / plan.STEPS):
            for left in place.glob(".*"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                elif left.name != LOCK:
                    left.unlink()


def _identity(asked: Plan, parent: bundle.Info) -> dict[str, Any]:
    """What a step that is not done again must share."""
    hashes = {
        name: p.fingerprint() for name, p in parts_of(asked.train, asked.valid)._asdict().items()
    }
    return {
        "model": parent.seal,
        "teachers": [bundle.load(teacher).seal for teacher in asked.teachers],
        "data": hashes,
        "columns": asked.columns.model_dump(),
        "settings": {k: v for k, v in (asked.settings or {}).items() if k != "cache"},
        "ways": asked.ways.model_dump(mode="json"),
        "targets": [asked.target_ms, asked.target_mb, asked.max_drop],
        "seed": asked.seed,
    }


def _step(asked: Plan, name: str, folder: Path, begun: Path, identity: dict[str, Any]) -> Step:
    """Done, or found done."""
    identity = identity | {"begun": bundle.load(begun).seal, "name": name}
    kept = folder.with_name(f"{folder.name}.json")
    values = _done(kept, folder, identity)
    if values is None:
        say(f"{name}: from {begun} to {folder}")
        facts = DO[name](asked, begun, folder)
        measured = judge(asked, folder)
        values = {
            "identity": identity,
            "seal": bundle.load(folder).seal,
            "facts": facts,
            "measured": asdict(measured),
        }
        with output.whole(kept) as temporary:
            temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1), "utf-8")
    measured = Measured.of(values["measured"])
    step = Step(name, folder, begun, measured, stands(asked, measured), values["facts"])
    _tell(asked, step)
    return step


def _done(kept: Path, folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What is known of a step that need not be done again."""
    try:
        values: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        same = values["identity"] == json.loads(json.dumps(identity))
        return values if same and bundle.verify(folder).seal == values["seal"] else None
    except (OSError, ValueError, KeyError, ModelError):
        return None


def _tell(asked: Plan, step: Step) -> None:
    m = step.measured
    fate = "" if step.stands else f"; more is lost than --max-drop {asked.max_drop:g}: left aside"
    say(
        f"{step.name}: {m.megabytes:.2f} MB, {m.milliseconds:.2f} ms, score {m.score:.3f} "
        f"(parent {m.parent:.3f}){fate}"
    )


def _finish(
    asked: Plan, parent: bundle.Info, before: Measured, steps: tuple[Step, ...]
) -> Compressed:
    kept = _closest(asked, steps)
    folder = kept.folder if kept else asked.model
    task = TASKS[parent.task]
    found = Compressed(
        name=asked.out.name,
        task=parent.task,
        metric=task.goal,
        higher_is_better=task.higher_is_better,
        parent=before,
        source=asked.model,
        steps=steps,
        kept=kept.name if kept else "",
        model=asked.out / MODEL,
        budgets={
            "max-drop": asked.max_drop,
            "target-ms": asked.target_ms,
            "target-mb": asked.target_mb,
        },
        missed=misses(asked, kept.measured if kept else before),
    )
    _hand_on(folder, asked.out / MODEL, asked.out.name)
    report.write(found, asked.out)
    return found


def _closest(asked: Plan, steps: tuple[Step, ...]) -> Step | None:
    """Of the steps that stand, the last that meets the targets, or which misses them least."""

    def excess(step: Step) -> float:
        missed = misses(asked, step.measured).values()
        return sum(value / limit - 1 for limit, value in missed)

    standing = [step for step in reversed(steps) if step.stands]
    return min(standing, key=excess, default=None)


def _hand_on(folder: Path, out: Path, name: str) -> None:
    """Copy a bundle to where the model stands. Raises: CapacityError."""
    info = bundle.load(folder)
    files = {file: bundle.read(folder, info, file) for file in info.files}
    bundle.save(out, info.model_copy(update={"name": name}), files)
