"""What the base model is answered on its development rows, for drift to be measured against.

    python -m recipes.base.reference DATA OUT [--model FOLDER]

writes the manifests to OUT as recipes.base.train does, unless they are there, asks the model about
the rows of OUT/joint/dev.jsonl, and saves the model again with a new reference.json: the graphs and
weights stay as they are, bundle.json gets new hashes. Training does the same with the model as it
was; this one is of the weights as they are shipped, 8-bit integers. 2 minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from moodal import bundle
from moodal.data import manifest
from moodal.data.language import language
from moodal.errors import DataError
from moodal.runtime import measure, reference
from moodal.runtime.predict import BATCH_SIZE, Model
from moodal.types import Record
from recipes.base.train import prepare


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.base.reference")
    parser.add_argument("data", type=Path, help="the folder of the data sets")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=bundle.PACKAGED)
    given = parser.parse_args()
    prepare(given.data, given.out, [])
    made = renew(given.model, given.out / "joint" / "dev.jsonl")
    counts = ", ".join(f"{name} {s.n:,}" for name, s in made.measures.items() if s.n)
    sys.stdout.write(f"{made.rows:,} rows; {counts}\n")


def renew(folder: Path, path: Path) -> reference.Reference:
    """Save the model with a reference of these rows, those it was calibrated on.

    Raises: DataError, when there are more or fewer than it was calibrated on, or one is bad.
    """
    made = of(Model(folder), path)
    info = bundle.load(folder)
    if made.rows != (expected := info.data["valid"]["rows"]):
        raise DataError(
            f"{path}: has {made.rows:,} rows, {info.name} was calibrated on {expected:,}; "
            "give the part that it was trained with"
        )
    files: dict[str, Any] = {name: bundle.read(folder, info, name) for name in info.files}
    bundle.save(folder, info, files | {bundle.REFERENCE: made.to_json()})
    return made


def of(model: Model, path: Path) -> reference.Reference:
    """Of the rows of a manifest. Raises: DataError, at one that cannot be read."""
    return reference.of(seen(model, _records(path)))


def seen(model: Model, records: Iterator[Record]) -> Iterator[reference.Seen]:
    while chunk := list(islice(records, BATCH_SIZE)):
        read = [model.read(record) for record in chunk]
        told = model.answer([r.record for r in read], [r.arrays for r in read])
        for (record, arrays, noted), outputs in zip(read, told, strict=True):
            answer = model.tell(outputs)
            words = record.text if "text" in arrays and isinstance(record.text, str) else None
            spoken = None if words is None else language(words)
            counted = reference.counted(answer, "+".join(answer.modalities), spoken)
            yield reference.Seen(measure.measures(noted, outputs, answer), counted)


def _records(path: Path) -> Iterator[Record]:
    for row in manifest.read(path):
        if not isinstance(row, Record):
            raise DataError(f"{row.source}: {row.field} {row.reason}")
        yield row


if __name__ == "__main__":
    main()
