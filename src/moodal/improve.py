"""The verbs that make a model better, smaller or faster; moodal.api has them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moodal import bundle, extras
from moodal.config import Columns, Run
from moodal.data import manifest
from moodal.tasks import configure

if TYPE_CHECKING:
    from moodal.compress.compare import Compared
    from moodal.compress.result import Compressed
    from moodal.tuning.result import Tuned


def tune(
    file: Path | str,
    *,
    valid: Path | str,
    out: Path | str,
    run: Run | Path | str | None = None,
    settings: Sequence[str] = (),
    start: Sequence[Path | str] = (),
    trials: int = 50,
    time: str | None = None,
    space: Path | str | None = None,
    storage: str | None = None,
    seeds: int = 3,
    whole: bool = False,
) -> Tuned:
    """Search for settings that beat the defaults, and keep a model; see moodal.tuning.

    file, run, settings, start: as in `train`; what they say is what trials vary. valid: the rows to
    choose by; half of them are kept for the comparison, unless `whole`. out: a folder for the
    trials, the model, report.html and best.yaml; the same call again goes on where it was stopped.
    trials: in all. time: after it no trial begins, as in "1h"; None = no limit. space: a YAML file;
    None = the default one. storage: address of a database that several processes share. seeds: how
    often the best settings and the defaults are trained to be compared.

    Raises: DataError, ConfigError, ModelError, CapacityError (a package of the extra `tune` is
        missing, the storage is locked).
    """
    parents = tuple(bundle.find(parent) for parent in start)
    under, file = bundle.settings_of(parents), Path(file)
    there = () if str(file) == "-" else manifest.columns_of(file)
    run = configure(
        Path(run) if isinstance(run, str) else run, settings, under=under, columns=there
    )
    module = extras.load("moodal.tuning.run", "tune")
    from moodal.monitor.look import period
    from moodal.tuning.plan import Plan

    asked = Plan(
        file=file,
        valid=Path(valid),
        out=Path(out).resolve(),
        run=run,
        start=parents,
        trials=trials,
        seconds=None if time is None else period(time),
        seeds=seeds,
        space=None if space is None else Path(space),
        storage=storage,
        whole=whole,
    )
    found: Tuned = module.tune(asked)
    return found


def compress(
    model: Path | str,
    *,
    train: Path | str,
    valid: Path | str,
    out: Path | str,
    steps: Sequence[str] = ("distil", "prune", "quantise"),
    max_drop: float = 0.01,
    target_ms: float | None = None,
    target_mb: float | None = None,
    teachers: Sequence[Path | str] = (),
    settings: Sequence[str] = (),
    renames: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Compressed:
    """Make a model smaller and faster, within a loss that is allowed; see moodal.compress.

    train, valid: manifests; rows of `train` without a label teach as well. out: a folder for every
    step's bundle, the model and report.html; the same call again goes on where it was stopped.
    max_drop: of the score on `valid`, in its units. target_ms, target_mb: p50 of the model alone on
    one thread, size of the folder in 10^6 bytes. teachers: models to learn from; () = the model
    itself. settings: `key=value` of the student and of the steps, e.g. "text_encoder.width=32",
    "distil.temperature=4". renames: as in `evaluate`.

    Raises: DataError, ConfigError, ModelError, CapacityError (a package of the extra `compress` is
        missing).
    """
    module = extras.load("moodal.compress.run", "compress")
    from moodal.compress.plan import Plan, settings_of

    folder = bundle.find(model)
    ways, values = settings_of(settings)
    asked = Plan(
        model=folder,
        train=Path(train),
        valid=Path(valid),
        out=Path(out).resolve(),
        columns=manifest.columns_in(Path(train), bundle.load(folder).columns, renames),
        steps=tuple(steps),
        max_drop=max_drop,
        target_ms=target_ms,
        target_mb=target_mb,
        teachers=tuple(bundle.find(teacher) for teacher in teachers),
        settings=values,
        ways=ways,
        seed=seed,
    )
    found: Compressed = module.compress(asked)
    return found


def compare(
    models: Sequence[Path | str],
    *,
    test: Path | str,
    out: Path | str | None = None,
    max_drop: float | None = None,
    max_ms: float | None = None,
    max_mb: float | None = None,
    renames: Mapping[str, str] | None = None,
) -> Compared:
    """Models side by side on labelled rows: size, memory, speed, score; see moodal.compress.

    models: folders; the first is what the others are measured against. test: labelled rows. out: a
    page to write, FILE.html, its numbers beside it as FILE.json; None = write nothing. max_drop: of
    the score, max_ms: of one record through the graphs alone, max_mb: of all files; what misses one
    of these is named in `missed`. renames: as in `evaluate`.

    Raises: ConfigError, ModelError when the models do not answer the same; DataError when no row
        can be scored; CapacityError.
    """
    from moodal.compress import compare as comparing
    from moodal.compress import compare_page

    if out is not None:
        compare_page.check_place(Path(out))
    folders, test = [bundle.find(model) for model in models], Path(test)
    known = bundle.load(folders[0]).columns if folders else Columns()
    budget = comparing.Budget(max_drop, max_ms, max_mb)
    columns = manifest.columns_in(test, known, renames)
    found = comparing.compare(folders, test, columns=columns, budget=budget)
    if out is not None:
        compare_page.write(found, Path(out))
    return found
