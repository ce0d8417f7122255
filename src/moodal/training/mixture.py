"""Data sets of unlike sizes and unlike labels, learned from together; a row's group is its set.

Letters: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodal.tasks import Floats, Task
from moodal.training.examples import Examples

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mixture:
    """drawn: set -> rows drawn from it in an epoch.

    among: set -> (C,), the outputs that compete in its rows. Two labels say nothing about a third:
    a set of good and bad alone compares these. A set without labels lets all compete.
    """

    drawn: dict[str, int]
    among: dict[str, Mask]

    def order(self, groups: Sequence[str], rng: np.random.Generator) -> Rows:
        """The rows of one epoch, shuffled: a small set's come several times, a large set's in
        part."""
        places = _places(groups)
        drawn = [_draw(rows, self.drawn[group], rng) for group, rows in places.items()]
        return rng.permutation(np.concatenate(drawn))

    def competing(self, groups: Sequence[str], n_outputs: int) -> Mask:
        """(N, C): which outputs compete in each row."""
        every = np.ones(n_outputs, np.bool_)
        return np.stack([self.among.get(group, every) for group in groups])


def fit(examples: Examples, exponent: float, n_outputs: int) -> Mixture:
    """How often each set of the training part is drawn, and what labels it has.

    exponent: a set is drawn in proportion to its number of rows to this power; an epoch has about
    as many rows as there are.
    Source: Devlin et al., multilingual BERT (2018), where the exponent is 0.7.
    """
    among = {}
    places = _places(examples.groups)
    shares = np.array([len(rows) for rows in places.values()]) ** exponent
    wanted = np.maximum(1, np.rint(len(examples) * shares / shares.sum()))
    drawn = {group: int(n) for group, n in zip(places, wanted, strict=True)}
    for group, rows in places.items():
        codes = examples.codes[rows]
        seen = np.zeros(n_outputs, np.bool_)
        if n_outputs > 1:
            seen[codes[~np.isnan(codes)].astype(np.int64)] = True
        among[group] = seen if seen.sum() > 1 else np.ones(n_outputs, np.bool_)
    return Mixture(drawn, among)


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
        among = mixture.competing([group], raw.shape[1])[0]
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
