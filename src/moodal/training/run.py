"""From two manifests to a bundle: survey, decode, fit, export, calibrate, save."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from moodal import bundle
from moodal.config import Run
from moodal.data import manifest
from moodal.errors import ConfigError, DataError
from moodal.model import build
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.preprocess import batch, symbols, vectors, vocabulary
from moodal.preprocess.audio import n_frames
from moodal.preprocess.batch import Lexicon, Settings
from moodal.preprocess.cache import default_folder
from moodal.preprocess.symbols import Symbols
from moodal.preprocess.vocabulary import Vocabulary
from moodal.runtime import ctc
from moodal.runtime.predict import Model
from moodal.tasks import TASKS
from moodal.training import checkpoint, examples, loop, mixture, objectives
from moodal.training import start as starting
from moodal.training.examples import Codec, Decoder, Examples, Parts, Survey
from moodal.training.finish import Origin, finish
from moodal.training.loader import Loader
from moodal.types import Record, Rejection

Array = NDArray[Any]

MEASURED_ROWS = 2000
"""Examples from which the mean and spread of frames and features are taken."""


def train(
    file: Path,
    *,
    valid: Path,
    out: Path,
    run: Run | None = None,
    start: Sequence[Path] = (),
    resume: bool = False,
) -> Model:
    """Train a model and save it as a bundle.

    file, valid: manifests (CSV, TSV, JSONL, Parquet) for training and validation. out: the folder
    to write; a bundle there is replaced when the new one is whole. run: settings, None = defaults.
    start: trained models whose words and weights to begin with. resume: go on with the run of the
    same settings and data that was stopped.

    Raises: DataError, ConfigError, ModelError, CapacityError.
    """
    run = run or Run()
    bundle.check_target(out)
    torch.set_num_threads(run.train.threads)
    parents = starting.read(start)
    hashes = _hashes(file, valid)
    lineage = [f"{p.info.name} {p.info.seal[:12]}" for p in parents]
    settings = run.model_dump(mode="json")
    identity = {"settings": settings, "data": hashes, "parents": lineage}
    with Workplace(out, identity, resume=resume) as place:
        parts = _read(file, valid, run, starting.lexicon(parents))
        torch.manual_seed(run.train.seed)
        network = build.network(run, parts.settings, _measure(parts, run))
        parts = _that_fit(parts, network)
        if parents:
            starting.take_over(network, parts, parents)
        job = _job(parts, network, run, place)
        history = loop.fit(job, resume=resume)
        origin = Origin(run, hashes, history, tuple(lineage))
        processes = PartialState()
        if processes.is_main_process:
            finish(job, parts, origin, out=out, scratch=place.folder / "bundle")
        processes.wait_for_everyone()
        return Model(out)


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


def _hashes(file: Path, valid: Path) -> dict[str, str]:
    for path in (file, valid):
        if str(path) == "-":
            raise ConfigError("training reads its files more than once: give a file, not '-'")
    return {"train": manifest.fingerprint(file), "valid": manifest.fingerprint(valid)}


def _read(file: Path, valid: Path, run: Run, known: Lexicon | None) -> Parts:
    """Two passes over the training manifest (what is in it; its rows), one over validation."""
    task, survey = TASKS[run.task], Survey()
    texts = survey.watch(_records(file, run), run.modalities)
    first = next(texts, None)
    lexicon = None
    if first is not None:
        lexicon = _lexicon(chain([first], texts), survey, run, known)
    spelling = lexicon if isinstance(lexicon, Symbols) else None
    try:
        labels = task.fit_codec(survey.targets, spelling.pieces if spelling else ())
    except DataError as error:
        raise DataError(f"{file.name}: {error}") from error
    codec = Codec(task, labels, spelling)
    settings = survey.settings(run, file.name)
    inputs = batch.build(settings, lexicon)
    decoder = Decoder(inputs, settings, run.cache or default_folder())
    try:
        train_part, valid_part = (
            examples.build(
                _records(path, run),
                codec=codec,
                decoder=decoder,
                name=path.name,
                training=path is file,
            )
            for path in (file, valid)
        )
    finally:
        decoder.close()
    if run.train.denoise:
        valid_part = examples.denoised(valid_part, codec)
    _check_usable(train_part, settings, file.name)
    if not {"tokens", "symbols"} & set(settings.kinds.values()):
        lexicon = None
    return Parts(codec, settings, lexicon, inputs, train_part, valid_part, survey)


def _records(path: Path, run: Run) -> Iterator[Record | Rejection]:
    """The rows of a manifest; where a text's hidden part is the target, the text stands for it."""
    for record in manifest.read(path, run.columns):
        if run.train.denoise and isinstance(record, Record) and isinstance(record.text, str):
            yield dataclasses.replace(record, target=record.text)
        else:
            yield record


def _lexicon(texts: Iterator[str], survey: Survey, run: Run, known: Lexicon | None) -> Lexicon:
    """What the texts are made of; of a text that is answered with a text, its targets too."""
    if "symbols" not in TASKS[run.task].kinds.values():
        pieces = known.pieces if isinstance(known, Vocabulary) else ()
        return vocabulary.fit(texts, run.text, known=pieces)
    found = symbols.fit(chain(texts, survey.targets), size=run.text.symbols)
    return known if isinstance(known, Symbols) else found


def _check_usable(part: Examples, settings: Settings, name: str) -> None:
    """Rows were rejected one by one: what is left must still hold every modality and two answers.

    Raises: DataError.
    """
    if missing := [m for m in settings.kinds if m not in part.arrays]:
        first = next((r for r in part.rejected if r.field in missing), None)
        reason = f"; the first was rejected because {first.field}: {first.reason}" if first else ""
        raise DataError(
            f"{name}: no readable row has {', '.join(missing)} ({len(part.rejected)} rows were "
            f"rejected){reason}. Mend the files, or leave out the column"
        )
    if not any(map(len, part.spelled)) and (len(part.labelled) == 0 or np.ptp(part.labelled) == 0):
        raise DataError(
            f"{name}: all {len(part)} readable rows have the same label ({len(part.rejected)} rows "
            "were rejected); a model needs at least two: mend the rejected rows, or add others"
        )


def _that_fit(parts: Parts, network: Network) -> Parts:
    """Without the rows whose text is longer than the frames of their sound, since no path says it,
    and those whose sound is cut by the window.

    Raises: DataError when none is left.
    """
    if parts.task.head != "frames":
        return parts
    stride, window = network.stride("audio"), parts.settings.windows["audio"]

    def fits(part: Examples, name: str) -> Examples:
        kept, rejected = [], []
        for row, (samples, text) in enumerate(zip(part.arrays["audio"], part.spelled, strict=True)):
            assert samples is not None, "sound is all it reads"
            reason = _misfit(n_frames(samples, parts.settings.audio), text, stride, window)
            if reason:
                rejected.append(Rejection(*part.sources[row], "label", reason))
            else:
                kept.append(row)
        if not kept:
            raise DataError(f"{name}: no row can be used; the first: {rejected[0].reason}")
        return part.only(kept, rejected)

    train_part, valid_part = (
        fits(parts.train, "training rows"),
        fits(parts.valid, "validation rows"),
    )
    return dataclasses.replace(parts, train=train_part, valid=valid_part)


def _misfit(n_frames: int, text: Array, stride: int, window: int) -> str:
    """Why a recording cannot teach its text; "" if it can."""
    if n_frames > window:
        return (
            f"the recording has {n_frames} frames, training reads {window} at most; cut it, or "
            "raise audio.max_seconds"
        )
    n_answers, needed = -(-n_frames // stride), ctc.frames_needed(text.tolist())
    if needed > n_answers:
        return (
            f"the text needs {needed} frames, its recording has {n_answers} after the encoder's "
            "stride; correct the text, or lower audio.hop_ms"
        )
    return ""


def _measure(parts: Parts, run: Run) -> Measured:
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


def _job(parts: Parts, network: Network, run: Run, place: Workplace) -> loop.Job:
    settings = run.train
    n_outputs, power = parts.task.n_outputs(parts.labels), settings.class_weights
    sets = None
    if settings.mixture is not None:
        sets = mixture.fit(parts.train, n_outputs, exponent=settings.mixture, power=power)
    weights = mixture.class_weights(parts.train.codes, n_outputs, power)
    cost = objectives.Cost(settings.label_smoothing, network.scale)
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
        loss=objectives.build(run.task, settings.loss, cost),
        codec=parts.codec,
        train=train,
        valid=dataclasses.replace(train, examples=parts.valid, seed=0, training=False, hides=()),
        settings=settings,
        decode=run.decode,
        folder=place.folder,
        identity=place.identity,
    )
