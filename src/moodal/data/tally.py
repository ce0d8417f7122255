"""The first half of a check: one pass over the rows, keeping little in memory and more on disk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.data.duplicates import Exact, NearImages, NearTexts, digest
from moodal.data.findings import MAX_ROWS, Place
from moodal.data.language import language
from moodal.data.spill import Ids, Values
from moodal.errors import RecordError
from moodal.types import MODALITIES, Media, Modality, Record, Rejection

Decoder = Callable[[Media], NDArray[Any]]
"""image: to (H, W, 3) uint8 of one fixed size; audio: to (n,) float32 samples at 16 kHz.
Raises RecordError."""

SAMPLE_RATE = 16_000
STATISTICS = ("characters", "seconds", "loudness_db", "brightness")
MAX_VALUES = 1000
"""More different labels or groups than these are not counted one by one."""
_FLOOR_DB = -100.0


@dataclass
class Named:
    """How many rows, and the first of them."""

    count: int = 0
    places: list[Place] = field(default_factory=list)

    def add(self, row: int, id: str, note: str = "") -> None:
        self.count += 1
        if len(self.places) < MAX_ROWS:
            self.places.append(Place(row, id, note))


class Counts:
    """Rows by value, for up to MAX_VALUES different ones."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.overflowed = False

    def add(self, value: str) -> None:
        if value in self.rows or len(self.rows) < MAX_VALUES:
            self.rows[value] += 1
        else:
            self.overflowed = True

    def to_dict(self) -> dict[str, int]:
        """{} when there are too many values to list."""
        return {} if self.overflowed else dict(sorted(self.rows.items()))


class Tally:
    """What is remembered of the rows. File 0 is the manifest; the others it is checked against."""

    def __init__(self, folder: Path, decoders: Mapping[Modality, Decoder]) -> None:
        self.decoders = decoders
        self.exact = Exact(folder)
        self.same_ids = Exact(folder, "same-ids")
        self.near_texts = NearTexts(folder)
        self.near_images = NearImages(folder)
        self.ids = Ids(folder, "ids")
        self.values = {name: Values(folder, name) for name in STATISTICS}
        self.keep = bytearray()
        self.labels = Counts()
        self.other_labels = Counts()
        self.languages = Counts()
        self.groups = Counts()
        self.subsets = Counts()
        self.unlabelled = Named()
        self.rejected: dict[tuple[str, str], Named] = {}
        self.rejections: list[Rejection] = []
        self.other_rejections: Counter[int] = Counter()
        self.widths: dict[tuple[Modality, str], Named] = {}

    def add(self, found: Record | Rejection, row: int, file: int) -> None:
        """row: from 1."""
        decoded = self._decode(found) if isinstance(found, Record) else found
        if file:
            self._add_other(found, decoded, row, file)
            return
        self.ids.add(found.id)
        self.keep.append(not isinstance(decoded, Rejection))
        measured = dict.fromkeys(STATISTICS, math.nan)
        if isinstance(decoded, Rejection):
            self._reject(found, decoded, row)
        else:
            assert isinstance(found, Record)
            measured |= self._add_record(found, decoded, row)
        for name, value in measured.items():
            self.values[name].add(value)

    def _decode(self, record: Record) -> dict[Modality, NDArray[Any]] | Rejection:
        """What the media of a record hold, where there is a decoder for them."""
        decoded: dict[Modality, NDArray[Any]] = {}
        for modality, decode in self.decoders.items():
            media = getattr(record, modality)
            if media is None or isinstance(media, np.ndarray):
                continue
            try:
                decoded[modality] = decode(media)
            except RecordError as error:
                return Rejection(record.id, record.source, error.field or modality, error.reason)
        return decoded

    def _add_other(
        self,
        found: Record | Rejection,
        decoded: dict[Modality, NDArray[Any]] | Rejection,
        row: int,
        file: int,
    ) -> None:
        if isinstance(found, Rejection) or isinstance(decoded, Rejection):
            self.other_rejections[file] += 1
            return
        self.other_labels.add(found.target or "")
        self._remember_input(found, decoded, row, file)

    def _reject(self, found: Record | Rejection, rejection: Rejection, row: int) -> None:
        kind = "unreadable_row"
        if isinstance(found, Record):
            media = getattr(found, rejection.field, None)
            missing = isinstance(media, Path) and not media.exists()
            kind = "missing_media" if missing else "corrupt_media"
        elif rejection.field in MODALITIES:
            kind = "bad_features" if "feature" in rejection.reason else kind
        key = (kind, rejection.field)
        self.rejected.setdefault(key, Named()).add(row, rejection.id, rejection.reason)
        if len(self.rejections) < MAX_ROWS:
            self.rejections.append(rejection)

    def _add_record(
        self, record: Record, decoded: dict[Modality, NDArray[Any]], row: int
    ) -> dict[str, float]:
        self.labels.add(record.target or "")
        if record.target is None:
            self.unlabelled.add(row, record.id)
        text = record.text if isinstance(record.text, str) else ""
        if record.lang or text:
            self.languages.add(record.lang or language(text))
        self.groups.add(record.group)
        self.subsets.add("+".join(record.modalities))
        self.same_ids.add(row, 0, key=digest(record.id.encode("utf-8", "replace")), label="")
        for modality in record.modalities:
            value = getattr(record, modality)
            if isinstance(value, np.ndarray):
                form = f"{'vectors' if value.ndim == 1 else 'sequences'} of {value.shape[-1]}"
            else:
                form = "text" if modality == "text" else "files"
            if (modality, form) in self.widths or len(self.widths) < MAX_VALUES:
                self.widths.setdefault((modality, form), Named()).add(row, record.id)
        self._remember_input(record, decoded, row, 0)
        return _measure(text, decoded)

    def _remember_input(
        self, record: Record, decoded: dict[Modality, NDArray[Any]], row: int, file: int
    ) -> None:
        parts = [
            modality.encode() + _content(decoded.get(modality, getattr(record, modality)))
            for modality in record.modalities
        ]
        key = digest(b"\0".join(parts))
        self.exact.add(row, file, key=key, label=record.target or "")
        if isinstance(record.text, str):
            self.near_texts.add(row, file, key=key, text=record.text)
        if "image" in decoded:
            self.near_images.add(row, file, key=key, image=decoded["image"])


def _content(value: Any) -> bytes:
    """What makes two values equal: of a text, all but the white space around and between words."""
    if isinstance(value, str):
        return " ".join(value.split()).encode("utf-8", "replace")
    data = value.tobytes() if isinstance(value, np.ndarray) else value
    return digest(data if isinstance(data, bytes) else str(data).encode()).to_bytes(8, "little")


def _measure(text: str, decoded: Mapping[Modality, NDArray[Any]]) -> dict[str, float]:
    """The numbers of STATISTICS that a row has. Loudness is RMS, in dB of full scale."""
    measured: dict[str, float] = {}
    if text:
        measured["characters"] = float(len(text))
    if "image" in decoded:
        measured["brightness"] = float(decoded["image"].mean())
    if "audio" in decoded:
        samples = decoded["audio"]
        power = float(np.square(samples, dtype=np.float64).mean()) if len(samples) else 0.0
        measured["seconds"] = len(samples) / SAMPLE_RATE
        measured["loudness_db"] = max(10 * math.log10(power), _FLOOR_DB) if power else _FLOOR_DB
    return measured
