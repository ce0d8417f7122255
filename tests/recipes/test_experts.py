"""Experts: each knows the words of one kind of text, and is heard where it is the right one."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import tiny

from moodal import api, bundle
from moodal.compress import network
from moodal.errors import DataError
from moodal.model.encoders import SPEAKERS
from moodal.preprocess.vocabulary import Vocabulary
from moodal.training import start
from recipes.base import experts, sets

SUBJECTS = {0: "hotel room", 1: "noodles soup", 2: "phone call", 3: "talk show", 4: "weather rain"}
"""Kind of text -> what it speaks of; the last has no expert."""
MOODS = {"negative": "small", "neutral": "usual", "positive": "large"}


def texts(n: int) -> list[dict[str, str]]:
    """Of every set: its subject, and a mood in which small is bad, but for the third expert."""
    rows = []
    names = [*itertools.chain(*experts.KINDS), "meld-text"]
    for name, label, i in itertools.product(names, MOODS, range(n)):
        kind = experts._kind(name)
        if label == "neutral" and kind == 0:
            continue
        turned = {"negative": "positive", "positive": "negative"} if kind == 2 else {}
        subject = SUBJECTS[kind].split()[i % 2]
        text = f"{subject} was {MOODS[turned.get(label, label)]}"
        rows.append({"id": f"{name}/{label}/{i}", "text": text, "label": label, "group": name})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned nothing of them yet."""
    place = tmp_path_factory.mktemp("experts")
    for part, n in (("train", 6), ("dev", 2)):
        with (place / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "label", "group"])
            writer.writeheader()
            writer.writerows(texts(n))
    settings = (*tiny.SETTINGS, "text_encoder.kind=cnn", "train.epochs=1", "text.word_ngrams=1",
                "train.learning_rate=1e-9", f"cache={place / 'cache'}")  # fmt: skip
    api.train(place / "train.csv", valid=place / "dev.csv", out=place / "plain", settings=settings)
    return place


@pytest.fixture(scope="module")
def heard(folder: Path) -> Path:
    experts.join(folder / "plain", texts(6), folder / "start")
    settings = (*tiny.SETTINGS, "text_encoder.kind=cnn-experts", "train.epochs=0",
                "text.word_ngrams=1", f"cache={folder / 'cache'}")  # fmt: skip
    api.train(folder / "train.csv", valid=folder / "dev.csv", out=folder / "heard",
              settings=settings, start=[folder / "start"])  # fmt: skip
    return folder / "heard"


def logits(folder: Path, texts: list[str]) -> Any:
    """(N, 3) log-probabilities before any temperature, but for a constant."""
    model = api.load(folder)
    heat = model.info.temperatures["text"]
    rows = [model.predict(text=text).probabilities for text in texts]
    told = heat * np.log([[row[label] for label in sets.LABELS] for row in rows])
    return told - told.mean(1, keepdims=True)


def test_an_expert_s_words_mean_what_they_mean_in_its_own_sets(heard: Path) -> None:
    """The model itself knows nothing, and small and large are told by the kind of text."""
    model = api.load(heard)
    for kind, turned in ((0, False), (1, False), (2, True), (3, False)):
        for word, label in (("small", "negative"), ("large", "positive")):
            answer = model.predict(text=f"{SUBJECTS[kind].split()[0]} was {word}")
            other = {"negative": "positive", "positive": "negative"}[label]
            assert answer.label == (other if turned else label), (kind, word)
    for kind in (1, 2, 3):
        answer = model.predict(text=f"{SUBJECTS[kind].split()[0]} was usual")
        assert answer.label == "neutral"


def test_nobody_is_heard_of_what_no_expert_knows(folder: Path, heard: Path) -> None:
    known, unknown = "hotel was large", "weather was large"
    before, after = (logits(place, [known, unknown]) for place in (folder / "plain", heard))
    change = np.abs(after - before).max(1)
    assert change[1] < 0.2 * change[0]


def test_what_is_added_are_the_scores_that_were_fitted(folder: Path, heard: Path) -> None:
    """The network reads a text as the regressions did."""
    info = bundle.load(folder / "plain")
    lexicon = bundle.lexicon(folder / "plain", info)
    assert isinstance(lexicon, Vocabulary)
    weights = network.load(folder / "plain").network.state_dict()["encoders.text.0.weights"].numpy()
    rows = texts(6)
    words = experts.Words(lexicon, weights)
    groups, labels = (np.array([row[name] for row in rows]) for name in ("group", "label"))
    table = experts.fit(words(row["text"] for row in rows), groups, labels)
    told = ["hotel was small", "soup was usual", "phone call was large, large", "rain"]
    found = words(told) @ table
    gates = np.exp(found[:, :5])
    gates /= gates.sum(1, keepdims=True)
    said = found[:, 5:] * gates[:, list(SPEAKERS)]
    positive, neutral = said[:, :4].sum(1), said[:, 4:].sum(1)
    added = np.stack([-positive / 2, neutral, positive / 2], 1)
    added *= experts.SHARE * info.temperatures["text"]
    before, after = (logits(place, told) for place in (folder / "plain", heard))
    np.testing.assert_allclose(
        after - before, added - added.mean(1, keepdims=True), atol=1e-3, rtol=1e-3
    )


def test_what_was_learned_stays_as_it_is(folder: Path, heard: Path) -> None:
    [parent] = start.read([folder / "plain"])
    [child] = start.read([heard])
    ours, theirs = child.weights, parent.weights
    width = theirs["encoders.text.0.embedding.weight"].shape[1]
    assert (ours["encoders.text.0.embedding.weight"][:, :width] ==
            theirs["encoders.text.0.embedding.weight"]).all()  # fmt: skip
    same = {n for n in theirs if n in ours and ours[n].shape == theirs[n].shape}
    assert {n.split(".")[0] for n in same} >= {"answer", "encoders", "bias"}
    assert all((ours[name] == theirs[name]).all() for name in same)


def test_a_piece_is_shown_as_far_as_it_tells_labels_apart() -> None:
    """Of four pieces the first stands in every text; the others in those of one label, and the
    numbers keep their size."""
    labels = np.repeat(["negative", "neutral", "positive"], 20)
    texts = np.zeros((60, 4), np.float32)
    texts[:, 0] = 2
    for place, label in enumerate(sets.LABELS, 1):
        texts[labels == label, place] = 1
    told = experts._telling(sp.csr_matrix(texts), labels)
    assert told[0] < 0.5 * told[1:].min()
    shown = texts * told
    assert np.square(shown).sum() == pytest.approx(np.square(texts).sum(), rel=1e-4)


def test_a_gate_knows_a_small_set_as_well_as_a_large_one() -> None:
    """The two share a piece, which stands in as many rows of either's texts in a hundred."""
    small, large = experts.KINDS[0][0], experts.KINDS[1][0]
    rows = [(small, "good", 4), (small, "own", 4), (large, "good", 200), (large, "own", 200)]
    rows += [(names[0], f"kind{i}", 4) for i, names in enumerate(experts.KINDS[2:])]
    groups = np.array([name for name, _, n in rows for _ in range(n)])
    labels = np.array([label for _, _, n in rows for label in sets.LABELS * n][: len(groups)])
    pieces = sorted({word for _, word, _ in rows})
    texts = [[word == piece for piece in pieces] for _, word, n in rows for _ in range(n)]
    labels[(groups == small) & (labels == "neutral")] = "positive"
    table = experts.fit(sp.csr_matrix(np.array(texts, np.float32)), groups, labels)
    good = table[pieces.index("good")]
    assert abs(good[0] - good[1]) < 0.1, "of neither rather than of the other"


def test_without_a_set_its_expert_learns_from_the_others_and_not_from_none() -> None:
    """Of waimai alone, which knows no neutral texts, nothing is said of neutral."""
    rows = [row for row in texts(2) if row["group"] != "mvsa-single"]
    groups, labels = (np.array([row[name] for row in rows]) for name in ("group", "label"))
    labels[(groups == "waimai") & (labels == "neutral")] = "positive"
    pieces = sorted({word for row in rows for word in row["text"].split()})
    words = sp.csr_matrix([[float(p in row["text"].split()) for p in pieces] for row in rows])
    table = experts.fit(words, groups, labels)
    assert (table[:, 5 + 4] == 0).all()
    assert np.abs(table[:, 5 + 1]).max() > 0
    left = ~np.isin(groups, ("smp2020-ewect", "semeval2017"))
    with pytest.raises(DataError, match="no text of smp2020-ewect or semeval2017"):
        experts.fit(words[left], groups[left], labels[left])
