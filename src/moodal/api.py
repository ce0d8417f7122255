"""The verbs, as a program calls them: load, train, evaluate. The command line calls these too."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from tqdm import tqdm

from moodal import bundle, extras
from moodal.config import Columns, Run
from moodal.data import manifest
from moodal.data.split import HeldOut, hold_out
from moodal.errors import ConfigError
from moodal.improve import compare, compress, tune
from moodal.preprocess import audio, image
from moodal.runtime import output, regions
from moodal.runtime.predict import Model
from moodal.tasks import configure
from moodal.types import Media, Modality, Prediction, Record, Rejection

if TYPE_CHECKING:
    from moodal.data.findings import CheckReport
    from moodal.evaluation.checklist import Checklist
    from moodal.evaluation.result import Report
    from moodal.monitor.gate import Decision
    from moodal.store.journal import Journal

__all__ = [
    "check",
    "checklist",
    "compare",
    "compress",
    "evaluate",
    "heatmap",
    "load",
    "predict_file",
    "promote",
    "retrain",
    "train",
    "tune",
]

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Endings of a heat map's name -> its format."""
HEATMAP_SIDE = 1024
"""Longer side of a heat map, in pixels, at most."""


def load(
    path: Path | str | None = None,
    *,
    threads: int = 1,
    transcriber: Model | Path | str | None = None,
) -> Model:
    """A trained model from its folder; its graphs are read when first needed.

    path: a folder; None or "base" = the model that comes with the package. threads: how many ONNX
    Runtime may use for one answer. transcriber: a model that writes speech down; its words are read
    as the text of a record that has none.
    Raises: ModelError when the folder is no model, or a file of it has changed, or the transcriber
        writes no speech down; ConfigError when there is one and the model reads no words.
    """
    if transcriber is not None and not isinstance(transcriber, Model):
        transcriber = Model(bundle.find(transcriber), threads=threads)
    return Model(bundle.find(path), threads=threads, transcriber=transcriber)


def train(
    file: Path | str,
    *,
    out: Path | str,
    valid: Path | str | None = None,
    run: Run | Path | str | None = None,
    settings: Sequence[str] = (),
    start: Sequence[Path | str] = (),
    resume: bool = False,
) -> Model:
    """Train a model on a manifest, save it as a folder, and return it loaded.

    file: CSV, TSV, JSONL or Parquet. out: the folder to write. valid: another such file, to choose
    the best epoch and to calibrate by; None = a tenth of the rows of `file` is held out, the same
    ones for the same `train.seed`, by the rule of data.split.hold_out. run: settings, or a YAML
    file of them; None = the defaults. settings: `key=value` laid over those, e.g. "train.epochs=5".
    start: trained models to begin with, "base" among them: their settings hold where nothing else
    is said, and their words and weights are taken over. resume: go on with a run that was stopped.

    Raises: DataError, ConfigError, ModelError, CapacityError (a package of the extra `train` is
        missing).
    """
    parents = [bundle.find(parent) for parent in start]
    under = bundle.settings_of(parents)
    there = () if str(file) == "-" else manifest.columns_of(Path(file))
    source = Path(run) if isinstance(run, str) else run
    run = configure(source, settings, under=under, columns=there)
    module = extras.load("moodal.training.run", "train")
    out, file = Path(out).resolve(), Path(file)
    bundle.check_target(out)
    judge = _held_out(file, run) if valid is None else Path(valid)
    model: Model = module.train(file, valid=judge, out=out, run=run, start=parents, resume=resume)
    return model


def _held_out(file: Path, run: Run) -> HeldOut:
    """The rows to choose the best epoch by, where no file of them was named."""
    seed, sets = run.train.seed, run.train.mixture is not None
    held = hold_out(file, columns=run.columns, seed=seed, sets=sets)
    sys.stderr.write(
        f"{held.n_held:,} of {held.n_rows:,} rows are held out to choose the best epoch by "
        f"({held.rule}, seed {seed}); --valid names others\n"
    )
    return held


def retrain(
    file: Path | str,
    *,
    journal: Journal,
    start: Path | str,
    out: Path | str,
    inputs: Path | str | None = None,
    reviewed: bool = True,
    valid: Path | str | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
) -> Model:
    """Train a model further, on the rows it was trained on and on what people corrected since.

    file: the old rows. journal: of the service. start: the model to go on from. inputs: where the
    service kept inputs. reviewed: False = also what users said and no reviewer has seen. The rest
    as in `train`, but that task and columns are those of `start` where nothing else is said. The
    joined rows are kept in OUT.data; the bundle says how many there were.

    Raises: as `train`; DataError when there is no correction.
    """
    from moodal.monitor import corrections, lessons

    file, out, start = Path(file), Path(out).resolve(), bundle.find(start)
    bundle.check_target(out)
    parent, there = bundle.load(start), manifest.columns_of(file)
    named = manifest.columns_in(file, parent.columns, None).model_dump().items()
    columns = (f"columns.{ours}={json.dumps(name)}" for ours, name in named if ours != name)
    settings = (f"task={parent.task}", *columns, *settings)
    data = lessons.folder_of(out)
    if not resume:
        run = configure(None, settings, under=bundle.settings_of([start]), columns=there)
        feedback = lessons.Feedback(journal, corrections.kept_in(inputs), reviewed)
        done = lessons.gather(file, feedback, info=parent, run=run, out=data)
        sys.stderr.write(f"{done.sentence()}\n")
    joined = data / lessons.FILE
    train(joined, out=out, valid=valid, settings=settings, start=[start], resume=resume)
    lessons.sign(out)
    return Model(out)


def promote(
    new: Path | str,
    *,
    over: Path | str,
    test: Path | str,
    journal: Journal | None = None,
    sure: float = 0.9,
    renames: Mapping[str, str] | None = None,
) -> Decision:
    """Put a model in the place of another if it is better; see moodal.monitor.promotion.

    test: labelled rows that neither has seen. journal: is told; None = nobody is. sure: share of
    the resamples in which the new one must be better. renames: as in `evaluate`.
    """
    from moodal.monitor import promotion

    new, over, test = bundle.find(new), Path(over), Path(test)
    stands = bundle.load(over if (over / bundle.INFO).is_file() else new)
    trial = promotion.Trial(test, manifest.columns_in(test, stands.columns, renames))
    return promotion.promote(new, over, trial, journal=journal, sure=sure)


def evaluate(
    data: Path | str | Iterable[Record | Rejection],
    *,
    model: Model | Path | str | None = None,
    out: Path | str | None = None,
    among: Sequence[str] | None = None,
    renames: Mapping[str, str] | None = None,
) -> Report:
    """Score a model on labelled rows: whole, by modality subset, by language, by group.

    data: a manifest or records. model: a folder or a loaded model; None = the packaged one. out: a
    folder for report.html and report.json; None = write nothing. among: only these labels compete.
    renames: our name -> the file's name of a column, where they differ from those the model was
    trained on.

    Raises: DataError when no labelled row can be read; ConfigError for unknown labels.
    """
    from moodal.evaluation import report
    from moodal.evaluation.score import evaluate as run_evaluation

    if out is not None:
        report.check_place(Path(out))
    if not isinstance(model, Model):
        model = load(model)
    name = Path(data).name if isinstance(data, Path | str) else "records"
    if isinstance(data, Path | str):
        data = manifest.read(
            Path(data), manifest.columns_in(Path(data), model.info.columns, renames)
        )
    rows = tqdm(data, desc="evaluating", unit=" rows", delay=2, disable=None)
    result = run_evaluation(model, rows, among=among, name=name)
    if out is not None:
        report.write(
            result,
            Path(out),
            history=model.info.history,
            settings=model.info.audio,
            regions=_regions(model, result),
        )
    return result


def _regions(model: Model, result: Report) -> list[regions.Weights]:
    """What mattered in the picture of each worst error; () where it has none, or where the answer
    that counted was another than the model's own, since only some labels competed."""
    worst = [error.record for error in result.worst]
    answers = model.predict_many(worst, explain=True)
    return [
        () if isinstance(a, Rejection) or a.label not in (None, error.answer) else a.regions
        for a, error in zip(answers, result.worst, strict=True)
    ]


def checklist(
    model: Model | Path | str | None = None, *, out: Path | str | None = None
) -> Checklist:
    """Put the checklist of behaviour to a model: negation, emoji, names, ...; needs no data.

    model: a folder or a loaded model; None = the packaged one. out: a folder for checklist.json;
    None = write nothing.
    Raises: DataError when `out` is a file; CapacityError when it cannot be written.
    """
    from moodal.evaluation import checklist as behaviour

    result = behaviour.run(model if isinstance(model, Model) else load(model))
    if out is not None:
        behaviour.write(result, Path(out))
    return result


def predict_file(
    file: Path | str,
    *,
    model: Model | Path | str | None = None,
    out: Path | str | None = None,
    explain: bool = False,
    renames: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Answer every row of a manifest, one JSON object a line, in the order of the rows.

    file: a manifest; "-" = standard input. out: where to write; None = standard output. A bad row
    becomes {"id", "error": {"source", "field", "reason"}} in its place.

    Returns: counts of the rows predicted and rejected.
    Raises: DataError when the file as a whole cannot be read; ConfigError when out is no place for
        a file; CapacityError when it cannot be written. Then nothing is left there.
    """
    if out is not None:
        output.check_place(Path(out), Path(file))
    model = model if isinstance(model, Model) else load(model)
    path = Path(file)
    columns = manifest.columns_in(
        path, model.info.columns.model_copy(update={"label": "label"}), renames
    )
    answers = model.predict_many(manifest.read(path, columns), explain=explain)
    counts = {"predicted": 0, "rejected": 0}
    with output.lines(None if out is None else Path(out)) as write:
        for answer in tqdm(answers, desc="predicting", unit=" rows", delay=2, disable=None):
            if isinstance(answer, Rejection):
                counts["rejected"] += 1
                whole = answer.to_dict()
                write({"id": whole.pop("id"), "error": whole})
            else:
                counts["predicted"] += 1
                write(answer.to_dict())
    return counts


def heatmap(picture: Media | str, answer: Prediction, *, out: Path | str) -> None:
    """Write a picture as a PNG or JPEG file, what moved the answer laid over it.

    picture: what the answer was made from, a path, the bytes of a file or pixels. answer: of
    predict(..., explain=True): orange spoke for it, blue against it.

    Raises: ConfigError when the answer knows no regions or out is no place for a picture;
        RecordError when the picture cannot be read; CapacityError when the file cannot be written.
    """
    out, picture = Path(out), Path(picture) if isinstance(picture, str) else picture
    if out.suffix.lower() not in PICTURES:
        raise ConfigError(f"{out}: name a file that ends in {', '.join(PICTURES)}")
    output.check_place(out, picture if isinstance(picture, Path) else Path())
    if not answer.regions:
        raise ConfigError(
            f"{out}: no picture had a part in the answer (it was made from "
            f"{', '.join(answer.modalities) or 'nothing'}); use a model that reads pictures, "
            "and explain=True"
        )
    laid = io.BytesIO()
    kind = PICTURES[out.suffix.lower()]
    regions.overlay(image.small(picture, HEATMAP_SIDE), answer.regions).save(laid, kind)
    with output.whole(out) as temporary:
        temporary.write_bytes(laid.getvalue())


def check(
    file: Path | str,
    *,
    against: Sequence[Path | str] = (),
    fix: Path | str | None = None,
    columns: Columns | None = None,
) -> CheckReport:
    """Look for what would spoil a model; see moodal.data.check.

    against: other parts, to look for leaks. fix: where to write the manifest without the rows
    that are rejected. Raises: DataError.
    """
    from moodal.data import check as checking

    settings = Run()
    decoders: dict[Modality, Callable[[Media], NDArray[Any]]] = {
        "image": lambda source: image.decode(source, settings.image),
        "audio": lambda source: audio.decode(source, settings.audio),
    }
    columns = columns or Columns()
    others = [Path(path) for path in against]
    report = checking.check(Path(file), columns=columns, against=others, decoders=decoders)
    if fix is not None:
        checking.fix(Path(file), Path(fix), report, columns=columns)
    return report
