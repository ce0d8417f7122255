"""Settings to modules: the only place where a setting's word chooses what is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from moodal.config import Encoder, Run
from moodal.errors import ConfigError
from moodal.model import encoders, fusion, heads
from moodal.model.answers import Answer, Frames, Text
from moodal.model.decoder import Decoder
from moodal.model.model import Network
from moodal.model.stems import Tokens
from moodal.preprocess.batch import Kind, Settings
from moodal.tasks import TASKS, Head
from moodal.types import MODALITIES, Modality, Subset

Array = NDArray[Any]

REGISTRIES: dict[Kind, Mapping[str, Any]] = {
    "tokens": encoders.TEXT,
    # Where a text is made of symbols, it is answered with a text, to which no expert adds.
    "symbols": {k: build for k, build in encoders.TEXT.items() if k not in encoders.ASIDE},
    "picture": encoders.IMAGE,
    "frames": encoders.AUDIO,
    "vectors": encoders.FEATURES,
}
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
AUTO: dict[Kind, str] = {
    "tokens": "bag",
    "symbols": "gru",
    "picture": "cnn",
    "frames": "cnn",
    "vectors": "mlp",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the training part says of the inputs and the answer.

    piece_weights: (n_pieces,), one for each row of the embedding; None without text.
    vectors: (n_pieces, n) word vectors to start from, or None.
    means, stds: modality -> (D,) of frames and vectors. bias: (C,), scale: see Task.start.
    """

    piece_weights: Array | None
    vectors: Array | None
    means: Mapping[Modality, Array]
    stds: Mapping[Modality, Array]
    bias: Array
    scale: float


def network(run: Run, settings: Settings, measured: Measured) -> Network:
    """Raises: ConfigError for an encoder that the kind of input does not have."""
    modalities = tuple(m for m in MODALITIES if m in settings.kinds)
    built = {
        m: _encoder(m, getattr(run, f"{m}_encoder"), run, settings, measured) for m in modalities
    }
    answer = ANSWERS[TASKS[run.task].head](run, modalities, built, len(measured.bias))
    return Network(
        built,
        answer,
        width=run.fusion.width,
        bias=torch.as_tensor(measured.bias, dtype=torch.float32),
        scale=measured.scale,
        aside=_aside(run, modalities),
    )


def _aside(run: Run, modalities: Subset) -> dict[Modality, int]:
    """Numbers that an encoder hands over behind the common ones, where there are any."""
    kinds = {m: getattr(run, f"{m}_encoder").kind for m in modalities}
    return {m: encoders.ASIDE[kind] for m, kind in kinds.items() if kind in encoders.ASIDE}


def _fusion(run: Run, modalities: Subset) -> nn.Module:
    f = run.fusion
    spec = fusion.Spec(
        width=f.width,
        rank=f.rank,
        layers=f.layers,
        heads=f.heads,
        bottlenecks=f.bottlenecks,
        dropout=f.dropout,
    )
    return fusion.FUSIONS[f.kind](modalities, spec)


Built = Mapping[Modality, nn.Sequential]


def _summary(run: Run, modalities: Subset, built: Built, n_out: int) -> Answer:
    h, width = run.head, run.fusion.width
    spec = heads.Spec(
        width=width, n_out=n_out, hidden=h.hidden, activation=h.activation, dropout=h.dropout
    )
    return Answer(
        _fusion(run, modalities),
        heads.HEADS[h.kind](spec),
        modalities,
        width,
        n_out,
        _aside(run, modalities),
    )


def _frames(run: Run, modalities: Subset, built: Built, n_out: int) -> Frames:
    """Raises: ConfigError for an encoder that keeps no frames."""
    if run.audio_encoder.kind == "ge2e":
        raise ConfigError(
            "audio_encoder.kind='ge2e' hears how a recording is spoken, not what: for "
            f"task={run.task} use auto, tdnn-gru or tdnn-transformer"
        )
    return Frames(heads.Each(run.fusion.width, n_out, dropout=run.head.dropout))


def _text(run: Run, modalities: Subset, built: Built, n_out: int) -> Text:
    stem = built["text"][0] if "text" in built else None
    embedding = stem.embedding if isinstance(stem, Tokens) else None
    decoder = Decoder(
        n_out,
        run.fusion.width,
        embedding=embedding,
        cell=CELLS[run.decoder.kind],
        dropout=run.decoder.dropout,
    )
    return Text(_fusion(run, modalities), decoder, modalities)


ANSWERS: dict[Head, Callable[[Run, Subset, Built, int], Answer | Frames | Text]] = {
    "summary": _summary,
    "frames": _frames,
    "decoder": _text,
}
"""head -> (run, modalities, their encoders, C) -> answer."""


def _encoder(
    modality: Modality, given: Encoder, run: Run, settings: Settings, measured: Measured
) -> nn.Sequential:
    kind = settings.kinds[modality]
    registry = REGISTRIES[kind]
    name = AUTO[kind] if given.kind == "auto" else given.kind
    if name not in registry:
        raise ConfigError(
            f"{modality}_encoder.kind={name!r}: for {kind} use auto or one of {', '.join(registry)}"
        )
    spec = encoders.Spec(
        out=run.fusion.width,
        width=given.width,
        layers=given.layers,
        heads=given.heads,
        kernel_size=given.kernel_size,
        activation=given.activation,
        dropout=given.dropout,
    )
    module: nn.Sequential
    if kind in ("tokens", "symbols"):
        assert measured.piece_weights is not None, "whoever reads text has measured its pieces"
        weights = torch.as_tensor(measured.piece_weights, dtype=torch.float32)
        vectors = None if measured.vectors is None else torch.as_tensor(measured.vectors)
        module = registry[name](len(weights), spec, weights=weights, vectors=vectors)
    elif kind == "picture":
        module = registry[name](spec)
    else:
        module = registry[name](
            measured.means[modality].tolist(), measured.stds[modality].tolist(), spec
        )
    if given.weights is not None:
        _begin_with(given.weights, module, f"{modality}_encoder.weights")
    return module


def _begin_with(file: Path, module: nn.Module, setting: str) -> None:
    """Copy the tensors of a safetensors file into the module, by name; what it lacks stays.

    Raises: ConfigError, naming file and tensor.
    """
    try:
        given = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{setting}={file}: {error}; give a safetensors file of an encoder's tensors"
        ) from error
    own = module.state_dict()
    if not given:
        raise ConfigError(f"{setting}={file}: holds no tensor")
    for name, values in given.items():
        if name not in own:
            raise ConfigError(f"{setting}={file}: holds {name}, which this encoder does not have")
        if values.shape != own[name].shape:
            raise ConfigError(
                f"{setting}={file}: {name} is {list(values.shape)}, in this encoder "
                f"{list(own[name].shape)}; was it made with other settings?"
            )
    module.load_state_dict(given, strict=False)
