"""Manifests to examples: what is in them, then every row decoded once and kept on disk."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from moodal.config import Run
from moodal.data.language import language
from moodal.errors import ConfigError, DataError, RecordError
from moodal.preprocess import batch
from moodal.preprocess.batch import Inputs, Kind, Lexicon, Settings
from moodal.preprocess.cache import Cache, content_key
from moodal.preprocess.symbols import END, Symbols
from moodal.preprocess.vocabulary import Vocabulary
from moodal.tasks import TASKS, Task
from moodal.training import denoise
from moodal.types import MODALITIES, Modality, Record, Rejection, Seq, Subset

Array = NDArray[Any]

FRESH_BYTES = 1 << 28
"""Decoded media kept in memory before they are read back from the mapped file."""


@dataclass(slots=True)
class Survey:
    """What a first pass over the training rows finds."""

    kinds: dict[Modality, Kind] = field(default_factory=dict)
    widths: dict[Modality, int] = field(default_factory=dict)
    targets: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    def watch(
        self, records: Iterable[Record | Rejection], wanted: Subset | None = None
    ) -> Iterator[str]:
        """Take note of every labelled row; pass its text on, for the vocabulary to learn from,
        unless text is not among the wanted modalities (None = all)."""
        for record in records:
            if isinstance(record, Rejection) or record.target is None:
                continue
            self.targets[record.target] += 1
            for modality in record.modalities:
                self._note(modality, getattr(record, modality))
            if isinstance(record.text, str):
                self.languages[record.lang or language(record.text)] += 1
                if wanted is None or "text" in wanted:
                    yield record.text

    def _note(self, modality: Modality, value: object) -> None:
        kind = self.kinds.setdefault(modality, batch.kind_of(modality, value))
        if kind == "vectors" and isinstance(value, np.ndarray):
            self.widths.setdefault(modality, int(value.shape[-1]))

    def settings(self, run: Run, name: str) -> Settings:
        """Raises: DataError when a wanted modality is in no row."""
        reads = TASKS[run.task].reads
        wanted = run.modalities or tuple(m for m in reads if m in self.kinds)
        if not wanted:
            raise DataError(
                f"{name}: no labelled row has {' or '.join(reads)}, which a model with "
                f"task={run.task} reads; fill the column, or name it with --column"
            )
        if missing := [m for m in wanted if m not in self.kinds]:
            raise DataError(
                f"{name}: no labelled row has {', '.join(missing)}, which modalities="
                f"{list(wanted)} asks for; fill the column or leave it out"
            )
        task = TASKS[run.task]
        if barred := [m for m in wanted if m not in task.reads]:
            raise ConfigError(
                f"modalities={list(wanted)}: with task={run.task} a model reads "
                f"{', '.join(task.reads)} alone, not {', '.join(barred)}; leave it out"
            )
        kinds = {m: task.kinds.get(k := self.kinds[m], k) for m in MODALITIES if m in wanted}
        widths = {m: w for m, w in self.widths.items() if m in wanted}
        return batch.settings_of(kinds, widths, run, windowed=task.windowed)


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled rows, decoded. Media are views of a memory-mapped file: they cost no memory.

    codes: (N,) float64; NaN where a row has no label. arrays: modality -> N
    decoded arrays, None where it is absent. rejected: the rows left out; n_unlabelled: rows
    without a label. probabilities: row -> (C,), where they are given. groups: N names. sources: N
    (id, source) of the rows. texts: N targets as they were written. spelled: N targets as (T,)
    codes of their symbols, of none where the answer is no text. read: row -> the text that is
    answered with a text, whose unknown characters may be copied; of a validation part alone.
    languages: N, of the text as data.language tells it; None = no words.
    """

    codes: NDArray[np.float64]
    arrays: dict[Modality, list[Array | None]]
    rejected: tuple[Rejection, ...] = ()
    n_unlabelled: int = 0
    probabilities: dict[int, Array] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    spelled: list[Array] = field(default_factory=list)
    read: dict[int, str] = field(default_factory=dict)
    languages: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def labelled(self) -> NDArray[np.float64]:
        """The codes of the rows that have a label."""
        return self.codes[~np.isnan(self.codes)]

    @property
    def taught(self) -> NDArray[np.bool_]:
        """(N,): the rows that a label, a text or probabilities are given for."""
        given = ~np.isnan(self.codes)
        given[list(self.probabilities)] = True
        return given

    def targets(self, rows: Array, task: Task, n_outputs: int) -> Seq[Array]:
        """What these rows teach: (B, 1, C), or (B, T) codes of symbols; a row that nothing is given
        for has a False mask."""
        codes, spelled = self.codes[rows], [self.spelled[row] for row in rows.tolist()]
        targets = task.targets(np.where(np.isnan(codes), 0, codes), spelled, n_outputs)
        for place, row in enumerate(rows.tolist()):
            if row in self.probabilities:
                targets.x[place] = self.probabilities[row]
        targets.mask[~self.taught[rows]] = False
        return targets

    def only(self, rows: Sequence[int], rejected: Sequence[Rejection]) -> Examples:
        """These rows; the others are rejected."""
        return Examples(
            codes=self.codes[list(rows)],
            arrays={m: [column[row] for row in rows] for m, column in self.arrays.items()},
            probabilities={
                place: self.probabilities[row]
                for place, row in enumerate(rows)
                if row in self.probabilities
            },
            groups=[self.groups[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            spelled=[self.spelled[row] for row in rows],
            read={place: self.read[row] for place, row in enumerate(rows) if row in self.read},
            sources=[self.sources[row] for row in rows],
            languages=[self.languages[row] for row in rows],
            rejected=(*self.rejected, *rejected),
            n_unlabelled=self.n_unlabelled,
        )

    def counts(self) -> dict[str, int]:
        return {
            "rows": len(self),
            "rejected": len(self.rejected),
            "unlabelled": self.n_unlabelled,
            **{m: sum(a is not None for a in arrays) for m, arrays in self.arrays.items()},
        }


@dataclass(frozen=True, slots=True)
class Codec:
    """How a target is read. symbols: of a text that is answered with a text."""

    task: Task
    labels: tuple[str, ...]
    symbols: Symbols | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """All that is known once both manifests are read. lexicon: None when no text is read."""

    codec: Codec
    settings: Settings
    lexicon: Lexicon | None
    inputs: Inputs
    train: Examples
    valid: Examples
    survey: Survey

    @property
    def task(self) -> Task:
        return self.codec.task

    @property
    def labels(self) -> tuple[str, ...]:
        return self.codec.labels

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words it reads; None where it reads symbols, or no text."""
        return self.lexicon if isinstance(self.lexicon, Vocabulary) else None


class Decoder:
    """Records to decoded arrays through the cache; text and features are cheap and pass it by."""

    def __init__(self, inputs: Inputs, settings: Settings, folder: Path) -> None:
        self._inputs = inputs
        # Only what decoding depends on is in the key: other augmentation, same decoded media.
        sound = settings.audio
        most = sound.limit_seconds if "audio" in settings.windows else sound.max_seconds
        keys = {
            "picture": f"picture size={settings.image.size}",
            "frames": f"samples max={most} limit={sound.limit_seconds}",
        }
        self._caches = {
            m: Cache(folder, keys[given.kind]) for m, given in inputs.items() if given.kind in keys
        }
        self._fresh: list[tuple[dict[Modality, Array], Modality, bytes]] = []
        self._fresh_bytes = 0

    @property
    def n_decoded(self) -> int:
        """Media that were decoded rather than found."""
        return sum(cache.decoded for cache in self._caches.values())

    def arrays(self, record: Record) -> dict[Modality, Array]:
        """Raises: RecordError as moodal.preprocess.batch.arrays."""
        present = [m for m in record.modalities if m in self._inputs]
        if not present:
            raise RecordError(f"has none of {', '.join(self._inputs)}; fill one of them in")
        row: dict[Modality, Array] = {}
        for modality in present:
            self._add(row, modality, getattr(record, modality))
        if self._fresh_bytes > FRESH_BYTES:
            self.settle()
        return row

    def settle(self) -> None:
        """Let go of what was just decoded: the mapped file holds it and costs no memory."""
        for row, modality, key in self._fresh:
            if (mapped := self._caches[modality].get(key)) is not None:
                row[modality] = mapped
        self._fresh, self._fresh_bytes = [], 0

    def _add(self, row: dict[Modality, Array], modality: Modality, value: Any) -> None:
        given = self._inputs[modality]
        if modality not in self._caches or batch.kind_of(modality, value) != given.kind:
            row[modality] = batch.decode(modality, value, given)
            return
        try:
            key = content_key(value)
        except RecordError as error:
            raise RecordError(error.reason, field=modality) from error
        cache = self._caches[modality]
        n_before = cache.decoded
        array = cache.get_or_make(key, lambda: batch.decode(modality, value, given))
        row[modality] = array
        if cache.decoded > n_before:
            self._fresh.append((row, modality, key))
            self._fresh_bytes += array.nbytes

    def close(self) -> None:
        for cache in self._caches.values():
            cache.close()


def build(
    records: Iterable[Record | Rejection],
    *,
    codec: Codec,
    decoder: Decoder,
    name: str,
    training: bool,
    unlabelled: bool = False,
) -> Examples:
    """Every labelled, readable row. Raises: DataError when there is none.

    training: probabilities count, and a row that has them needs no label. unlabelled: no row needs
    one; what it teaches is for others to say.
    """
    rows: list[dict[Modality, Array]] = []
    taught: list[tuple[float, Array | None]] = []
    kept: list[Record] = []
    languages: list[str | None] = []
    rejected: list[Rejection] = []
    n_unlabelled = 0
    for record in tqdm(records, desc=f"reading {name}", unit=" rows", delay=2, disable=None):
        if isinstance(record, Rejection):
            rejected.append(record)
        elif record.target is None and not (unlabelled or (training and record.probabilities)):
            n_unlabelled += 1
        else:
            try:
                taught.append(_taught(record, codec, training=training))
                rows.append(decoder.arrays(record))
                kept.append(_bare(record, with_text=codec.symbols is not None and not training))
                languages.append(language(t) if isinstance(t := record.text, str) else None)
            except RecordError as error:
                del taught[len(rows) :]
                rejected.append(error.rejection(record.id, record.source))
    if not rows:
        why = "; fill the label column or name it with --label"
        if rejected:
            why = f"; the first was rejected because {rejected[0].field}: {rejected[0].reason}"
        raise DataError(
            f"{name}: no row can be used ({len(rejected)} rejected, {n_unlabelled} without a "
            f"label){why}"
        )
    decoder.settle()
    modalities = [m for m in MODALITIES if any(m in row for row in rows)]
    arrays = {m: [row.get(m) for row in rows] for m in modalities}
    return Examples(
        codes=np.array([code for code, _ in taught], np.float64),
        arrays=arrays,
        probabilities={row: p for row, (_, p) in enumerate(taught) if p is not None},
        groups=[sys.intern(record.group) for record in kept],
        texts=[record.target or "" for record in kept],
        spelled=[codec.task.spell(r.target or "", codec.labels, codec.symbols) for r in kept],
        read={row: r.text for row, r in enumerate(kept) if isinstance(r.text, str)},
        sources=[(record.id, record.source) for record in kept],
        languages=languages,
        rejected=tuple(rejected),
        n_unlabelled=n_unlabelled,
    )


def denoised(part: Examples, codec: Codec) -> Examples:
    """Each text with a part of it hidden, which becomes its target; always the same part."""
    texts, spelled, written = list[Array | None](), list[Array](), list[str]()
    for row, text in enumerate(part.arrays["text"]):
        assert text is not None, "its text is its target"
        stops = denoise.ends([codec.labels[code] for code in text[:, 0]])
        source, target = denoise.hide(text[:, 0], stops, np.random.default_rng(row))
        texts.append(source.astype(np.int32)[:, None])
        spelled.append(np.append(target, END).astype(np.int64))
        written.append("".join(codec.labels[code] for code in target).strip())
    arrays = part.arrays | {"text": texts}
    return dataclasses.replace(part, arrays=arrays, spelled=spelled, texts=written, read={})


def _bare(record: Record, *, with_text: bool) -> Record:
    """All but its media."""
    target = None if record.target is None else sys.intern(record.target)
    text = record.text if with_text else None
    return Record(record.id, text, target=target, group=record.group, source=record.source)


def _taught(record: Record, codec: Codec, *, training: bool) -> tuple[float, Array | None]:
    """A row's code, or NaN, and its probabilities (C,), or None. Raises: RecordError."""
    task, labels = codec.task, codec.labels
    code = math.nan if record.target is None else task.encode_target(record.target, labels)
    if not (training and record.probabilities):
        return code, None
    return code, task.encode_probabilities(record.probabilities, labels)
