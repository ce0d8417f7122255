"""Regressions, each of the pictures of one set: what they make of pictures that they have not seen.

A model of many sets knows less of each than a small one that knows nothing else: how frequent its
labels are, and how they look there. So pictures of pairs are told by specialists, each of which has
seen the other pictures of the set: of its own it would only repeat the labels. Source: Wolpert,
Stacked Generalization (1992), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from moodal.training.mixture import class_weights

Row = dict[str, Any]

GROUP = "picture-"
"""And the name of the set whose pairs they are of."""
INVERSE_STRENGTH = 0.001
"""Of the regularisation."""


def told(
    given: Mapping[int, Sequence[Row]], photographs: Path, weights: Mapping[str, float]
) -> Iterator[Row]:
    """Pictures of pairs, with the `probabilities` that a specialist of the set gives which saw no
    label of their fold.

    given: fold -> rows of a picture alone. photographs: a file of recipes/photos.py. weights: set
    -> power to which the rarity of a class counts, 0 if it is not named.
    """
    from recipes import photos

    rows = [row for fold in given.values() for row in fold]
    folds = np.repeat(list(given), [len(fold) for fold in given.values()])
    seen = photos.seen([Path(row["image"]) for row in rows], photographs)
    names = np.array([row["group"] for row in rows])
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        for fold in np.unique(folds[own]):
            others, held = own[folds[own] != fold], own[folds[own] == fold]
            labels = [rows[i]["label"] for i in others]
            specialist = _specialist(seen[others], labels, weights.get(name, 0))
            for i, answer in zip(held, specialist.predict_proba(seen[held]), strict=True):
                shares = dict(zip(specialist.classes_, map(float, answer), strict=True))
                yield rows[i] | {
                    "id": f"{rows[i]['id']}/picture",
                    "lang": "",
                    "label": max(shares, key=shares.__getitem__),
                    "group": f"{GROUP}{name}",
                    "probabilities": shares,
                }


def by_rarity(labels: Sequence[str] | NDArray[np.str_], power: float) -> NDArray[Any]:
    """(N,) weights of rows: the rarity of their label, to a power."""
    names, codes = np.unique(labels, return_inverse=True)
    return class_weights(codes.astype(np.float64), len(names), power)[codes]


def _specialist(seen: NDArray[np.float32], labels: Sequence[str], power: float) -> Pipeline:
    """power: see told."""
    model = LogisticRegression(C=INVERSE_STRENGTH, max_iter=500)
    specialist = make_pipeline(StandardScaler(), model)
    weights = by_rarity(labels, power)
    specialist.fit(seen, labels, logisticregression__sample_weight=weights)
    return specialist
