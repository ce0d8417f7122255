"""From two manifests to a bundle: survey, decode, fit, export, calibrate, save."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from moodal import bundle
from moodal.config import Run
from moodal.data.split import HeldOut
from moodal.model import build
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.preprocess import batch, vectors, vocabulary
from moodal.preprocess.symbols import Symbols
from moodal.runtime.predict import Model
from moodal.training import checkpoint, loop, mixture, objectives
from moodal.training import read as reading
from moodal.training import start as starting
from moodal.training.examples import Parts
from moodal.training.finish import Origin, finish
from moodal.training.loader import Loader
from moodal.training.loop import Watch
from moodal.training.objectives import Cost, Lesson, Loss
from moodal.training.read import Part
from moodal.training.start import Parent

Array = NDArray[Any]

MEASURED_ROWS = 2000
"""Examples from which the mean and spread of frames and features are taken."""


def train(
    file: Path,
    *,
    valid: Path | HeldOut | Part,
    out: Path,
    run: Run | None = None,
    start: Sequence[Path] = (),
    resume: bool = False,
) -> Model:
    """Train a model and save it as a bundle.

    file, valid: manifests (CSV, TSV, JSONL, Parquet) for training and validation; valid may be rows
    of `file` that are held out, or a part of another file. out: the folder to write; a bundle there
    is replaced when the new one is whole. run: settings, None = defaults. start: trained models
    whose words and weights to begin with. resume: go on with the run of the same settings and data
    that was stopped.

    Raises: DataError, ConfigError, ModelError, CapacityError.
    """
    run = run or Run()
    bundle.check_target(out)
    torch.set_num_threads(run.train.threads)
    parents = starting.read(start)
    hashes = {p: part.fingerprint() for p, part in reading.parts_of(file, valid)._asdict().items()}
    lineage = [f"{p.info.name} {p.info.seal[:12]}" for p in parents]
    settings = run.model_dump(mode="json")
    identity = {"settings": settings, "data": hashes, "parents": lineage}
    with Workplace(out, identity, resume=resume) as place:
        parts = reading.read(reading.parts_of(file, valid), run, starting.lexicon(parents))
        parts, job = _job(parts, run, parents, place)
        learned = run
        if parents and not run.train.epochs:  # how its weights were learned stays known
            learned = run.model_copy(update={"train": parents[0].run.train})
            history = list(parents[0].info.history)
        else:
            history = loop.fit(job, resume=resume)
        origin = Origin(learned, hashes, history, tuple(lineage))
        processes = PartialState()
        if processes.is_main_process:
            finish(job, parts, origin, out=out, scratch=place.folder / "bundle")
        processes.wait_for_everyone()
        return Model(out)


def try_out(
    parts: Parts, run: Run, *, parents: Sequence[Parent] = (), watch: Watch = loop.say
) -> list[dict[str, float]]:
    """What settings are worth: as train, from rows that are read, but nothing is kept.

    Returns: as loop.fit. Raises: ConfigError, CapacityError, and what `watch` raises.
    """
    torch.set_num_threads(run.train.threads)
    _, job = _job(parts, run, parents, None)
    return loop.fit(job, watch=watch)


class Workplace:
    """OUT.training: holds the checkpoints while the run lasts, and is gone once it is done.

    A run that fails before its first checkpoint leaves nothing; later, what --resume needs.
    identity: what a resumed run must share: its settings, data and parents.
    """

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.folder = checkpoint.folder_of(out)
        self.identity = identity
        if resume:
            checkpoint.load(self.folder, identity)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None or not (self.folder / checkpoint.STATE).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)


def measure(parts: Parts, run: Run) -> Measured:
    n_outputs = parts.task.n_outputs(parts.labels)
    bias, scale = parts.task.start(parts.train.labelled, n_outputs)
    figures = {
        m: _mean_and_std(parts.train.arrays[m], parts.inputs[m])
        for m, kind in parts.settings.kinds.items()
        if kind in ("frames", "vectors")
    }
    return Measured(
        piece_weights=_piece_weights(parts),
        vectors=_vectors(parts, run),
        means={m: mean for m, (mean, _) in figures.items()},
        stds={m: std for m, (_, std) in figures.items()},
        bias=bias,
        scale=scale,
    )


def _piece_weights(parts: Parts) -> Array | None:
    """(n_pieces,) inverse document frequency over the training texts, of mean square 1 over all
    occurrences: common words and n-grams are heard less.

    Source: Spärck Jones (1972), smoothed as if one more text held every piece.
    """
    if isinstance(parts.lexicon, Symbols):
        return np.ones(len(parts.lexicon))
    if parts.vocabulary is None:
        return None
    texts = [pieces for pieces in parts.train.arrays["text"] if pieces is not None]
    n_texts = np.zeros(len(parts.vocabulary))
    for pieces in texts:
        n_texts[np.unique(pieces)] += 1
    n_texts[vocabulary.PADDING] = 0
    weights = np.log((1 + len(texts)) / (1 + n_texts)) + 1.0
    scale = np.sqrt((n_texts * weights**2).sum() / n_texts.sum())
    return np.asarray(weights / scale)


def _mean_and_std(column: list[Array | None], given: batch.Input) -> tuple[Array, Array]:
    """(D,), (D,) over all positions of up to 2 * MEASURED_ROWS examples, evenly picked."""
    seen = [a for a in column if a is not None]
    step = max(1, len(seen) // MEASURED_ROWS)
    total = square = np.zeros(1)
    n_positions = 0
    for array in seen[::step]:
        finished = given.finish(array).astype(np.float64)  # (S, D)
        n_positions += len(finished)
        total = total + finished.sum(0)
        square = square + np.square(finished).sum(0)
    mean = total / n_positions
    return mean, np.sqrt(np.maximum(square / n_positions - mean**2, 0.0))


def _vectors(parts: Parts, run: Run) -> Array | None:
    if run.text.vectors is None or parts.vocabulary is None:
        return None
    found, known = vectors.load(run.text.vectors, parts.vocabulary)
    rng = np.random.default_rng(run.train.seed)
    drawn = rng.normal(0.0, found[known].std() if known.any() else 0.1, found.shape)
    return np.where(known[:, None], found, drawn).astype(np.float32)


def _job(
    parts: Parts, run: Run, parents: Sequence[Parent], place: Workplace | None
) -> tuple[Parts, loop.Job]:
    """A network as the run begins with it, the rows that fit it, and both as a job."""
    torch.manual_seed(run.train.seed)
    network = build.network(run, parts.settings, measure(parts, run))
    if parents:
        starting.resize(network, run, parts, parents)
    parts = reading.that_fit(parts, network)
    if parents:
        starting.take_over(network, parts, parents)
    return parts, job_of(parts, network, run, place)


def job_of(
    parts: Parts,
    network: Network,
    run: Run,
    place: Workplace | None,
    teach: Callable[[Loss, Cost], Lesson] | None = None,
) -> loop.Job:
    """teach: (what a wrong answer costs, in which units) -> what is learned; None = the targets."""
    settings = run.train
    n_outputs, power = parts.task.n_outputs(parts.labels), settings.class_weights
    sets = None
    if settings.mixture is not None:
        sets = mixture.fit(parts.train, n_outputs, exponent=settings.mixture, power=power)
    whole = 0.0 if isinstance(power, dict) else power
    weights = mixture.class_weights(parts.train.codes, n_outputs, whole)
    cost = Cost(settings.label_smoothing, float(network.scale))
    loss = objectives.build(run.task, settings.loss, cost)
    train = Loader(
        parts.train,
        parts.inputs,
        settings.batch_size,
        settings.seed,
        task=parts.task,
        weights=np.where(weights > 0, weights, 1.0),  # each competes, rows or not
        training=True,
        modality_dropout=settings.modality_dropout if len(network.modalities) > 1 else 0.0,
        mixture=sets,
        windows=parts.settings.windows,
        hides=parts.labels if settings.denoise else (),
    )
    return loop.Job(
        network=network,
        loss=loss,
        lesson=teach(loss, cost) if teach else objectives.by_targets(loss),
        codec=parts.codec,
        train=train,
        valid=dataclasses.replace(train, examples=parts.valid, seed=0, training=False, hides=()),
        settings=settings,
        decode=run.decode,
        folder=place.folder if place else None,
        identity=place.identity if place else {},
    )
