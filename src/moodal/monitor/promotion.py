"""A new model in the old one's place, if the gate lets it pass; and back. Both are journalled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from moodal import bundle
from moodal.bundle import Info
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import CapacityError
from moodal.monitor import gate, lessons, versions
from moodal.monitor.gate import Decision
from moodal.monitor.lessons import RETRAINED
from moodal.monitor.paired import RESAMPLES
from moodal.runtime.predict import Model
from moodal.store.ids import new_id
from moodal.store.rows import Change, Event
from moodal.tasks import TASKS
from moodal.types import Record, Rejection

if TYPE_CHECKING:
    from moodal.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Trial:
    """Labelled rows to judge by."""

    path: Path
    columns: Columns

    def records(self) -> Iterable[Record | Rejection]:
        return manifest.read(self.path, self.columns)


def promote(
    new: Path,
    over: Path,
    test: Trial,
    *,
    journal: Journal | None = None,
    sure: float = 0.9,
    resamples: int = RESAMPLES,
) -> Decision:
    """Put a copy of `new` in the place of the model at `over`, if it is better by the gate's rule.

    over: where no model stands, the new one is the first, and nothing is compared.
    Returns: the decision; it says why when it is not `passed`, and then nothing has changed.
    Raises: as gate.decide and versions.install do; CapacityError when the journal is away.
    """
    over = versions.place_of(over)
    versions.mend(over)
    info, before = bundle.verify(new), ""
    if (over / bundle.INFO).is_file():
        old, model = Model(over), Model(new)
        before = old.info.seal
        gate.check(old.info, info)
        warnings = tuple(_warnings(new, info, test))
        rows = tqdm(test.records(), desc="comparing", unit=" rows", delay=2, disable=None)
        decision = replace(
            gate.decide(old, model, rows, sure=sure, resamples=resamples), warnings=warnings
        )
    else:
        decision = gate.first(TASKS[info.task], sure=sure)
    if decision.passed:
        versions.install(new, over, instead_of=before)
    about = {"over": over.name, "instead_of": before[:12], "test": test.path.name}
    change: Change = "promoted" if decision.passed else "refused"
    _record(journal, change, info, {**about, **decision.to_dict()})
    return decision


def rollback(folder: Path, *, journal: Journal | None = None) -> tuple[str, Info]:
    """Put the model that stood there before in its place again; call it twice to go two back.

    Returns: the version that was taken away, and the model that stands there now.
    Raises: as versions.back does; CapacityError when the journal is away.
    """
    away, info = versions.back(folder)
    _record(journal, "rolled_back", info, {"over": folder.name, "instead_of": away[:12]})
    return away[:12], info


def _warnings(new: Path, info: Info, test: Trial) -> Iterator[str]:
    """What would make the new model look better than it is."""
    fingerprint = manifest.fingerprint(test.path)
    for part, use in (("train", "learned from"), ("valid", "was chosen by")):
        if info.data.get(part, {}).get("sha256") == fingerprint:
            yield f"{test.path.name} is the very file that the new model {use}: its score is false"
    learned = lessons.known(new, info.columns) if RETRAINED in info.data else ()
    if count := lessons.n_known(test.records(), learned):
        yield (
            f"{count:,} rows of {test.path.name} are among those that the new model learned from: "
            "its score is too good; take them out of one of the two"
        )


def _record(
    journal: Journal | None, change: Change, info: Info, numbers: Mapping[str, Any]
) -> None:
    if journal is None:
        return
    now = time.time()
    try:
        journal.record(Event(new_id(now), now, change, bundle.version(info), info.name, numbers))
    except CapacityError as error:
        raise CapacityError(
            f"the model is {change}, but the journal does not say so: {error}"
        ) from error
