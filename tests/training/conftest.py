"""Examples and jobs in memory: vectors whose sign says the label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moodal.config import Audio as AudioSettings
from moodal.config import Decode, Image, Run, Text, Train
from moodal.model import build
from moodal.preprocess import batch
from moodal.preprocess.batch import Settings
from moodal.tasks import TASKS
from moodal.training import objectives
from moodal.training.examples import Codec, Examples
from moodal.training.loader import Loader
from moodal.training.loop import Job

D = 4
SETTINGS = Settings(
    {"text": "vectors", "audio": "vectors"},
    {"text": D, "audio": D},
    Text(),
    Image(),
    AudioSettings(),
)
PARTS = ("text_encoder", "audio_encoder", "fusion")
RUN = {part: {"width": 8, "heads": 2} for part in PARTS}

MakeJob = Callable[..., Job]


def examples(n: int, *, seed: int, labelled: bool) -> Examples:
    """Vectors of one to nine positions whose mean is the label, or the number; some are absent."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, n).astype(np.float64) if labelled else rng.normal(0, 1, n)
    means = 2 * codes - 1 if labelled else codes
    arrays: dict[Any, list[Any]] = {"text": [], "audio": []}
    for mean in means:
        for column in arrays.values():
            vector = rng.normal(mean, 0.3, (int(rng.integers(1, 10)), D)).astype(np.float32)
            column.append(vector)
        if rng.random() < 0.3:
            arrays[str(rng.choice(["text", "audio"]))][-1] = None
    return Examples(codes, arrays, spelled=[np.zeros(0, np.int64)] * n)


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """(task, folder=..., **train settings) -> a Job on 40 + 24 rows that is learned in an epoch."""
    torch.set_num_threads(1)

    def make(task: str, *, folder: Path | None = None, **given: Any) -> Job:
        settings = Train.model_validate(
            {"batch_size": 8, "learning_rate": 0.01, "epochs": 2} | given
        )
        labels = ("bad", "good") if TASKS[task].higher_is_better else ()
        train, valid = (examples(n, seed=n, labelled=bool(labels)) for n in (40, 24))
        bias, scale = TASKS[task].start(train.codes, max(1, len(labels)))
        figures = {m: np.zeros(D) for m in SETTINGS.kinds}, {m: np.ones(D) for m in SETTINGS.kinds}
        torch.manual_seed(settings.seed)
        measured = build.Measured(None, None, *figures, bias, scale)
        network = build.network(Run.model_validate(RUN), SETTINGS, measured)
        inputs = batch.build(SETTINGS, None)
        cost = objectives.Cost(settings.label_smoothing, scale)
        dropout = settings.modality_dropout
        to: dict[str, Any] = {"task": TASKS[task], "weights": np.ones(max(1, len(labels)))}
        loss = objectives.build(task, settings.loss, cost)
        return Job(
            network=network,
            loss=loss,
            lesson=objectives.by_targets(loss),
            codec=Codec(TASKS[task], labels),
            train=Loader(
                train, inputs, 8, settings.seed, **to, training=True, modality_dropout=dropout
            ),
            valid=Loader(valid, inputs, 8, 0, **to, training=False),
            settings=settings,
            decode=Decode(),
            folder=folder or tmp_path / "model.training",
            identity={"settings": settings.model_dump(mode="json")},
        )

    return make
