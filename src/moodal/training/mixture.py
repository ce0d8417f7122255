"""Data sets of unlike sizes and unlike labels, learned from together; a row's group is its set.

Letters: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodal.errors import ConfigError
from moodal.tasks import Floats, Task
from moodal.training.examples import Examples

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mixture:
    """drawn: set -> rows drawn from it in an epoch.

    weights: set -> (C,) of the outputs in its rows, 0 = does not compete. Two labels say nothing
    about a third: a set of good and bad alone compares these. Without labels all compete.
    """

    drawn: dict[str, int]
    weights: dict[str, Floats]

    def order(self, groups: Sequence[str], rng: np.random.Generator) -> Rows:
        """The rows of one epoch, shuffled: a small set's come several times, a large set's in
        part."""
        places = _places(groups)
        drawn = [_draw(rows, self.drawn[group], rng) for group, rows in places.items()]
        return rng.permutation(np.concatenate(drawn))

    def weigh(self, groups: Sequence[str], n_outputs: int) -> Floats:
        """(N, C): the weights of the outputs in each row."""
        even = np.ones(n_outputs)
        return np.stack([self.weights.get(group, even) for group in groups])


def class_weights(codes: Floats, n_outputs: int, power: float) -> Floats:
    """(C,): frequency^-power, in proportion such that the rows' mean weight is 1; a label that no
    row has does not compete. All 1 where there are no codes, or the answer is a number.

    codes: (N,), NaN where there is none.
    Source: King and Zeng, Logistic Regression in Rare Events Data (2001), section 4.2 (power 1).
    """
    counts = np.zeros(n_outputs)
    if n_outputs > 1:
        known = codes[~np.isnan(codes)].astype(np.int64)
        counts = np.bincount(known, minlength=n_outputs).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        return np.ones(n_outputs)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    return np.asarray(weights * counts.sum() / (weights * counts).sum())


def fit(
    examples: Examples, n_outputs: int, *, exponent: float, power: float | Mapping[str, float]
) -> Mixture:
    """How often each set of the training part is drawn, and how its labels weigh.

    exponent: a set is drawn in proportion to its number of rows to this power; an epoch has about
    as many rows as there are. power: see class_weights; of a set that a mapping leaves out, 0.
    Raises: ConfigError for the power of a set that is not there.
    Source: Devlin et al., multilingual BERT (2018), where the exponent is 0.7.
    """
    places = _places(examples.groups)
    powers = power if isinstance(power, Mapping) else dict.fromkeys(places, power)
    if missing := [name for name in powers if name not in places]:
        raise ConfigError(
            f"train.class_weights: no row of the training part is of {', '.join(missing)}; "
            f"the sets (the column `group`) are {', '.join(places)}"
        )
    shares = np.array([len(rows) for rows in places.values()]) ** exponent
    wanted = np.maximum(1, np.rint(len(examples) * shares / shares.sum()))
    drawn = {group: int(n) for group, n in zip(places, wanted, strict=True)}
    weights = {
        group: class_weights(examples.codes[rows], n_outputs, powers.get(group, 0.0))
        for group, rows in places.items()
    }
    return Mixture(drawn, weights)


def scores(
    task: Task, labels: tuple[str, ...], examples: Examples, raw: Floats, mixture: Mixture | None
) -> dict[str, float]:
    """Set -> the task's goal over its rows and its labels; one set, "", without a mixture.

    raw: (N, C) scores before calibration.
    """
    if mixture is None:
        goal = task.score(examples.codes, task.activate(raw, 1.0), labels)[task.goal]
        return {"": float(goal)}
    return dict(_goals(task, labels, examples, raw, mixture))


def _goals(
    task: Task, labels: tuple[str, ...], examples: Examples, raw: Floats, mixture: Mixture
) -> Iterator[tuple[str, float]]:
    for group, rows in _places(examples.groups).items():
        among = mixture.weigh([group], raw.shape[1])[0] > 0
        codes, own, names = examples.codes[rows], raw[rows][:, among], labels
        if labels:  # codes count the competing labels alone; a row of another is set aside
            known = among[codes.astype(np.int64)]
            codes = (np.cumsum(among) - 1)[codes[known].astype(np.int64)].astype(np.float64)
            own = own[known]
            names = tuple(label for label, seen in zip(labels, among, strict=True) if seen)
        if len(codes):
            yield group, float(task.score(codes, task.activate(own, 1.0), names)[task.goal])


def _places(groups: Sequence[str]) -> dict[str, Rows]:
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return {str(name): np.flatnonzero(numbers == i) for i, name in enumerate(names)}


def _draw(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    """n of the rows, each as often as any other but for one."""
    times = -(-n // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(times)])[:n]
