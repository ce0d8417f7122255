"""What every trial stands on: the rows, read once, and which of them choose and which compare."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

import numpy as np

from moodal.config import Run
from moodal.data.split import hold_out
from moodal.errors import DataError
from moodal.preprocess import batch
from moodal.training import read as reading
from moodal.training import start as starting
from moodal.training.examples import Parts
from moodal.training.read import Part, TwoParts
from moodal.training.start import Parent
from moodal.tuning import defaults
from moodal.tuning.defaults import Situation
from moodal.tuning.plan import Plan
from moodal.tuning.space import Values, value
from moodal.types import MODALITIES

UNREAD = re.compile(
    r"text\.word_dropout|image\.(rotate_degrees|scale|crop|flip|colour)"
    r"|audio\.(augment|gain_db|shift_ms|pause_ms|speed|mask_time|mask_frequency)"
)
"""Settings of inputs that only change what is learned from, not what is read."""


@dataclass(frozen=True, slots=True)
class Halves:
    """The validation rows: those that trials are scored on, and those that the winner is compared
    on. rule: how they were parted, "" where both are all of them."""

    tuned_on: Part
    compared_on: Part
    rule: str


@dataclass(frozen=True, slots=True)
class Ground:
    """run: the settings that trials vary, encoders by their name. sources: learned from, scored on.
    parts: both, read. parents: models to begin with."""

    run: Run
    sources: TwoParts
    halves: Halves
    parts: Parts
    parents: tuple[Parent, ...]

    @property
    def situation(self) -> Situation:
        read = {m for parent in self.parents for m in parent.info.kinds}
        inherited = tuple(m for m in MODALITIES if m in read and m in self.parts.settings.kinds)
        labelled = self.parts.task.head == "summary" and bool(self.parts.labels)
        return Situation(self.run, self.parts.settings.kinds, labelled, inherited)

    def parts_for(self, run: Run, values: Values) -> Parts:
        """The rows as a trial with these values sees them; read anew only where they would differ.

        Raises: DataError, ConfigError.
        """
        changed = [
            name
            for name, given in values.items()
            if name.partition(".")[0] in MODALITIES and given != value(self.run, name)
        ]
        if not all(map(UNREAD.fullmatch, changed)):
            return reading.read(self.sources, run, starting.lexicon(self.parents))
        parts = self.parts
        kinds, widths, windowed = parts.settings.kinds, parts.settings.widths, parts.task.windowed
        settings = batch.settings_of(kinds, widths, run, windowed=windowed)
        inputs = batch.build(settings, parts.lexicon)
        return dataclasses.replace(parts, settings=settings, inputs=inputs)


def stand(plan: Plan) -> Ground:
    """Read the rows. Raises: DataError, ConfigError, ModelError, CapacityError."""
    parents = starting.read(plan.start)
    halves = halve(plan)
    sources = TwoParts(Part(plan.file), halves.tuned_on)
    parts = reading.read(sources, plan.run, starting.lexicon(parents))
    run = defaults.resolved(plan.run, parts.settings.kinds)
    return Ground(run, sources, halves, parts, parents)


def halve(plan: Plan) -> Halves:
    """Part the validation rows: whole groups stay together, else each label gives its half; the
    same file and seed are parted the same way. Raises: DataError."""
    if plan.whole:
        return Halves(Part(plan.valid), Part(plan.valid), "")
    columns, train = plan.run.columns, plan.run.train
    sets = train.mixture is not None
    try:
        held = hold_out(plan.valid, columns=columns, share=0.5, seed=train.seed, sets=sets)
    except DataError as error:
        raise DataError(
            f"{error}. Half of the validation rows is kept to compare on; --whole tunes and "
            "compares on all of them"
        ) from error
    tuned_on = Part(plan.valid, np.logical_not(held.is_held))
    return Halves(tuned_on, Part(plan.valid, held.is_held), held.rule)
