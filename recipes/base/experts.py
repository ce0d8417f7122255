"""Experts of words: regressions, each of the texts of one kind, and one that tells the kinds apart.

What learns from all sets, and from teachers' answers, forgets some of what the labels of a set say
of its own words. So these are heard beside it: see moodal.model.stems.Experts. They join a model
that has learned: of the texts that they have learned from themselves, it would believe them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from safetensors.torch import save as tensors_bytes
from sklearn.linear_model import LogisticRegression

from moodal import bundle
from moodal.errors import DataError
from moodal.model.encoders import SPEAKERS
from moodal.preprocess.vocabulary import PADDING, Vocabulary
from recipes.base import sets
from recipes.base.specialists import by_rarity

Row = dict[str, Any]
Array = NDArray[np.float32]
Names = NDArray[np.str_]

KINDS = (
    ("chnsenticorp", "online-shopping", "sst2"),
    ("waimai", "mvsa-single"),
    ("smp2020-ewect", "semeval2017"),
    ("emotiontalk-text", "goemotions"),
)
"""The sets that each expert learns from. Those of two languages can share one: a piece of text is
hardly ever of both."""
INVERSE_STRENGTH = 2.0
"""Of the regularisation, of texts whose numbers have a length of 1 in the mean."""
TELLING = 0.5
"""Power to which it counts how unlike its places are what is shown of a piece. Both were chosen by
a fifth of each set's training rows: LOG.md."""
BALANCE = 0.5
"""Power to which the rarity of a label counts."""
AS_FREQUENT = ("mvsa-single",)
"""Sets scored by accuracy, where it counts not at all."""
SHARE = 0.5
"""What an expert's log-odds count, beside the model's own: chosen on dev, like KINDS."""
KIND = "cnn-experts"


@dataclass(frozen=True, slots=True)
class Words:
    """How the encoder reads a text. weights: (n_pieces,), of the pieces."""

    vocabulary: Vocabulary
    weights: Array

    def __call__(self, texts: Iterable[str]) -> sp.csr_matrix:
        """(N, n_pieces): the weights of the pieces that stand in a text, over the root of how many
        a position may have, as stems.Tokens has it, and that of the positions, as masked_root_sum.
        """
        pieces, values, ends = list[Any](), list[Any](), [0]
        for text in texts:
            rows = self.vocabulary.encode(text)
            found = rows[rows != PADDING]
            pieces.append(found)
            values.append(self.weights[found] / np.sqrt(rows.size))
            ends.append(ends[-1] + len(found))
        told = (np.concatenate(values), np.concatenate(pieces), ends)
        matrix = sp.csr_matrix(told, shape=(len(ends) - 1, len(self.weights)), dtype=np.float32)
        matrix.sum_duplicates()
        return matrix


def fit(words: sp.csr_matrix, groups: Names, labels: Names) -> Array:
    """(n_pieces, n): what a piece adds to each score, in the order of stems.Experts.

    words: of N texts, see Words. groups: (N,), the sets they are from. labels: (N,).
    Raises: DataError when an expert has nothing to learn from.
    """
    length = float(np.sqrt(words.multiply(words).sum(1)).mean())
    words = words / length
    names, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
    kinds = np.array([_kind(name) for name in names])[places]
    if missing := [" or ".join(KINDS[i]) for i in range(len(KINDS)) if i not in kinds]:
        raise DataError(f"no text of {', nor of '.join(missing)}: an expert learns from each")
    gates = _regression(words, kinds, 1 / counts[places])  # of few texts as well known as of many
    told = [
        iter(_contrasts(words[kinds == i], groups[kinds == i], labels[kinds == i]))
        for i in range(len(KINDS))
    ]
    said = [next(told[speaker]) for speaker in SPEAKERS]
    return np.array([*gates, *said], np.float32).T / length


def _kind(name: str) -> int:
    """The expert of a set; behind the last, for one that has none."""
    return next((i for i, names in enumerate(KINDS) if name in names), len(KINDS))


def _contrasts(words: sp.csr_matrix, groups: Names, labels: Names) -> Iterator[Array]:
    """What an expert says, (n_pieces,) each: positive rather than negative, and neutral rather than
    these, of the sets that know such texts; nothing of that if there are none."""

    def regression(rows: NDArray[np.bool_]) -> Array:
        told = _telling(words[rows], labels[rows])
        weights = _balanced(groups[rows], labels[rows])
        found: Array = _regression(words[rows] @ sp.diags(told), labels[rows], weights) * told
        return found

    knows = np.isin(groups, np.unique(groups[labels == "neutral"]))
    if knows.any():
        negative, neutral, positive = regression(knows)
    if knows.all():
        yield positive - negative
    else:
        yield regression(labels != "neutral")[0]
    yield neutral - (negative + positive) / 2 if knows.any() else np.zeros(words.shape[1])


def _balanced(groups: Names, labels: Names) -> NDArray[np.float64]:
    weights = np.ones(len(labels))
    for name in np.unique(groups):
        power = 0.0 if name in AS_FREQUENT else BALANCE
        weights[groups == name] = by_rarity(labels[groups == name], power)
    return weights


def _telling(words: sp.csr_matrix, labels: Names) -> Array:
    """(n_pieces,): how much of a piece a regression is shown: the more, the more unlike its shares
    of the texts of a label and of the others are; of mean square 1 over all that is shown.

    Source: Wang and Manning, Baselines and Bigrams (ACL 2012), section 2 (the log-count ratio r, by
    which a linear model is shown the counts); the largest of several labels, and the power, ours.
    """
    stands = (words > 0).astype(np.float32)
    ratios = []
    for label in np.unique(labels):
        own, others = (
            np.asarray(stands[rows].sum(0)).ravel() + 1
            for rows in (labels == label, labels != label)
        )
        ratios.append(np.abs(np.log(own / own.sum()) - np.log(others / others.sum())))
    told = np.max(ratios, 0) ** TELLING
    squares = np.asarray(words.multiply(words).sum(0)).ravel()
    return np.asarray(told / np.sqrt((squares * told**2).sum() / squares.sum()), np.float32)


def _regression(words: sp.csr_matrix, classes: Any, weights: NDArray[np.float64]) -> Array:
    model = LogisticRegression(C=INVERSE_STRENGTH, max_iter=100, fit_intercept=False)
    model.fit(words, classes, sample_weight=weights / weights.mean())
    found: Array = model.coef_
    return found


def join(folder: Path, rows: Sequence[Row], out: Path) -> None:
    """Write what to start from: the model in `folder` with experts of its words.

    rows: texts with their label and group.
    """
    info = bundle.load(folder)
    weights = tensors_of(bundle.read(folder, info, bundle.WEIGHTS))
    settings = yaml.safe_load(bundle.read(folder, info, bundle.CONFIG))
    lexicon = bundle.lexicon(folder, info)
    assert isinstance(lexicon, Vocabulary), "it reads words"
    read = Words(lexicon, weights["encoders.text.0.weights"].numpy())
    columns = {name: np.array([row[name] for row in rows]) for name in ("group", "label")}
    table = fit(read(row["text"] for row in rows), columns["group"], columns["label"])
    joined = _joined(weights, table, heat=info.temperatures["text"])
    settings["text_encoder"]["kind"] = KIND
    files: dict[str, Any] = {
        bundle.WEIGHTS: tensors_bytes(joined),
        bundle.CONFIG: yaml.safe_dump(settings, allow_unicode=True).encode("utf-8"),
        bundle.VOCABULARY: lexicon.save,
    }
    bundle.save(out, info, files)


def _joined(
    weights: dict[str, torch.Tensor], table: Array, *, heat: float
) -> dict[str, torch.Tensor]:
    """As the encoder with experts, and the answer that hears them, have them by name."""
    places = {
        "encoders.text.1.": "encoders.text.1.path.1.",
        "encoders.text.2.": "encoders.text.1.path.2.",
    }
    joined = {}
    for name, values in weights.items():
        there = next((place for place in places if name.startswith(place)), "")
        joined[places.get(there, "") + name.removeprefix(there)] = values
    pieces, answer = "encoders.text.0.embedding.weight", "answer.alone.text.weight"
    # About as large as the other numbers of a piece, with which they share a scale as integers.
    known = table.any(1)
    own = weights[pieces].abs().amax(1).numpy()
    scale = float(np.median(np.abs(table[known]).max(1) / own[known].clip(1e-6)))
    joined[pieces] = torch.cat([weights[pieces], torch.from_numpy(table / scale)], 1).contiguous()
    joined["encoders.text.1.says.1.scale"] = torch.tensor(scale)
    heard = torch.zeros(len(sets.LABELS), len(SPEAKERS))
    for place, speaker in enumerate(SPEAKERS):
        is_first = place == SPEAKERS.index(speaker)
        heard[:, place] = torch.tensor([-0.5, 0.0, 0.5] if is_first else [0.0, 1.0, 0.0])
    joined[answer] = torch.cat([weights[answer], SHARE * heat * heard], 1)
    return joined
