"""Two manifests to what a run learns from: words or symbols, labels, rows that can be used."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moodal.config import Columns, Run
from moodal.data import manifest
from moodal.data.rows import STDIN
from moodal.data.split import HeldOut
from moodal.errors import ConfigError, DataError
from moodal.model.model import Network
from moodal.preprocess import batch, symbols, vocabulary
from moodal.preprocess.audio import n_frames
from moodal.preprocess.batch import Lexicon, Settings
from moodal.preprocess.cache import default_folder
from moodal.preprocess.symbols import Symbols
from moodal.preprocess.vocabulary import Vocabulary
from moodal.runtime import ctc
from moodal.tasks import TASKS
from moodal.training import examples
from moodal.training.examples import Codec, Decoder, Examples, Parts, Survey
from moodal.types import Record, Rejection

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A manifest, or some of its rows: (N,) bool, one a row."""

    path: Path
    rows: NDArray[np.bool_] | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def records(self, columns: Columns) -> Iterator[Record | Rejection]:
        for number, record in enumerate(manifest.read(self.path, columns)):
            if self.rows is None or self.rows[number]:
                yield record

    def fingerprint(self) -> str:
        """sha256 of the file, and of which rows of it are meant.

        Raises: ConfigError for standard input.
        """
        if self.path == STDIN:
            raise ConfigError("training reads its files more than once: give a file, not '-'")
        whole = manifest.fingerprint(self.path)
        if self.rows is None:
            return whole
        return hashlib.sha256(whole.encode() + self.rows.tobytes()).hexdigest()


class TwoParts(NamedTuple):
    train: Part
    valid: Part


def parts_of(file: Path, valid: Path | HeldOut | Part) -> TwoParts:
    if isinstance(valid, HeldOut):
        return TwoParts(Part(file, ~valid.is_held), Part(file, valid.is_held))
    return TwoParts(Part(file), valid if isinstance(valid, Part) else Part(valid))


def read(sources: TwoParts, run: Run, known: Lexicon | None) -> Parts:
    """Two passes over the training rows (what is in them; one by one), one over validation."""
    file = sources.train
    task, survey = TASKS[run.task], Survey()
    _check_settings(run)
    try:
        lexicon = _lexicon(survey.watch(_records(file, run), run.modalities), survey, run, known)
        spelling = lexicon if isinstance(lexicon, Symbols) else None
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
                _records(part, run),
                codec=codec,
                decoder=decoder,
                name=part.name,
                training=part is file,
            )
            for part in sources
        )
    finally:
        decoder.close()
    if run.train.denoise:
        valid_part = examples.denoised(valid_part, codec)
    _check_usable(train_part, settings, file.name)
    if isinstance(lexicon, Vocabulary) and "tokens" not in settings.kinds.values():
        lexicon = None
    return Parts(codec, settings, lexicon, inputs, train_part, valid_part, survey)


def _records(part: Part, run: Run) -> Iterator[Record | Rejection]:
    """The rows of a part; where a text's hidden part is the target, the text stands for it."""
    for record in part.records(run.columns):
        if run.train.denoise and isinstance(record, Record):
            text = record.text if isinstance(record.text, str) else None
            yield dataclasses.replace(record, target=text)
        else:
            yield record


def _lexicon(
    texts: Iterator[str], survey: Survey, run: Run, known: Lexicon | None
) -> Lexicon | None:
    """What the texts are made of; of a text that is answered with a text, its targets too. None
    where there is no text at all."""
    if "symbols" in TASKS[run.task].kinds.values():
        found = symbols.fit(chain(texts, survey.targets), size=run.text.symbols)
        return known if isinstance(known, Symbols) else found
    first = next(texts, None)
    if first is None:
        return None
    pieces = known.pieces if isinstance(known, Vocabulary) else ()
    return vocabulary.fit(chain([first], texts), run.text, known=pieces)


def _check_settings(run: Run) -> None:
    """Raises: ConfigError for what means nothing to the task."""
    task, settings = TASKS[run.task], run.train
    if task.head != "summary" and (settings.mixture is not None or settings.class_weights):
        raise ConfigError(
            f"train.mixture and train.class_weights weigh labels, and with task={run.task} the "
            "answer is a text; leave them out"
        )
    if isinstance(settings.class_weights, dict) and settings.mixture is None:
        raise ConfigError(
            "train.class_weights has a power for each set, but there are no sets; "
            "set train.mixture, or give one power"
        )
    if settings.denoise and "symbols" not in task.kinds.values():
        raise ConfigError(
            f"train.denoise=true: with task={run.task} no text answers a text; leave it out"
        )


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


def that_fit(parts: Parts, network: Network) -> Parts:
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
            field, reason = _misfit(n_frames(samples, parts.settings.audio), text, stride, window)
            if reason:
                rejected.append(Rejection(*part.sources[row], field, reason))
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


def _misfit(n_frames: int, text: Array, stride: int, window: int) -> tuple[str, str]:
    """The field at fault and why a recording cannot teach its text; "", "" if it can."""
    if n_frames > window:
        return "audio", (
            f"the recording has {n_frames} frames, training reads {window} at most; cut it, or "
            "raise audio.max_seconds"
        )
    n_answers, needed = -(-n_frames // stride), ctc.frames_needed(text.tolist())
    if needed > n_answers:
        return "label", (
            f"the text needs {needed} frames, its recording has {n_answers} after the encoder's "
            "stride; correct the text, or lower audio.hop_ms"
        )
    return "", ""
