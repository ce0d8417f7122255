"""Where a run starts from: trained models whose words and weights it takes over.

Weights are matched by what they stand for: those of a piece of text by the piece, those of an
answer by its label, all others by their place. What has no counterpart starts as in any run, but
for what a modality says alone, which starts from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
import yaml
from onnx import numpy_helper
from safetensors.torch import load as tensors_of
from torch import Tensor

from moodal import bundle, config
from moodal.config import Run
from moodal.errors import ConfigError
from moodal.model import shape
from moodal.model.model import Network
from moodal.preprocess.batch import Lexicon
from moodal.preprocess.vocabulary import Vocabulary
from moodal.training.examples import Parts
from moodal.types import Modality

PIECES = ("encoders.text.0.embedding.weight", "encoders.text.0.weights")
"""What has one row a piece of text."""
VALUE = ("value",)
"""Stands for the labels of a model that answers with a number."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A trained model: what it is, its weights, the pieces of text it knows, its settings."""

    info: bundle.Info
    weights: dict[str, Tensor]
    lexicon: Lexicon | None
    run: Run

    @property
    def vocabulary(self) -> Vocabulary | None:
        return self.lexicon if isinstance(self.lexicon, Vocabulary) else None


def read(folders: Sequence[Path]) -> tuple[Parent, ...]:
    """Raises: ModelError for what is no model; ConfigError when two of them read text."""
    parents = tuple(map(_read, folders))
    if sum(parent.lexicon is not None for parent in parents) > 1:
        raise ConfigError("two of the models to start from read text; one vocabulary can be kept")
    return parents


def _read(folder: Path) -> Parent:
    info = bundle.load(folder)
    words = bundle.lexicon(folder, info)
    weights = tensors_of(bundle.read(folder, info, bundle.WEIGHTS))
    run = config.parse(yaml.safe_load(bundle.read(folder, info, bundle.CONFIG)))
    if info.weights == "int8":
        weights = _unpacked(_held(folder, info) | weights)
    return Parent(info, weights, words, run)


def _held(folder: Path, info: bundle.Info) -> dict[str, Tensor]:
    """The integers that stand in the graphs, by name; see bundle.SCALE."""
    graphs = [bundle.read(folder, info, name) for name in info.files if name.endswith(".onnx")]
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for content in graphs
        for tensor in onnx.load_from_string(content).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }


def _unpacked(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """As float32; what no scale goes with as it is."""
    tensors = {
        name: values
        for name, values in given.items()
        if values.dtype != torch.int8 and not name.endswith(bundle.SCALE)
    }
    for scaled in (name for name in given if name.endswith(bundle.SCALE)):
        name = scaled.removesuffix(bundle.SCALE)
        by_row = given[scaled].reshape(-1, *(1,) * (given[name].ndim - 1))
        tensors[name] = given[name].float() * by_row
    return tensors


def lexicon(parents: Sequence[Parent]) -> Lexicon | None:
    """What texts are made of, as far as it is known beforehand."""
    return next((p.lexicon for p in parents if p.lexicon is not None), None)


def resize(network: Network, run: Run, parts: Parts, parents: Sequence[Parent]) -> None:
    """Make a network as narrow as the parents were pruned to be, where it is built by the same
    settings as they were; where it is not, take_over says so."""
    own = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    for parent in reversed(parents):
        wanted = {
            name: _shape(name, values, own)
            for name, values in parent.weights.items()
            if _is_shared(name, network, parts, parent) and _is_built_alike(name, run, parent.run)
        }
        shape.fit(network, wanted)


def _shape(name: str, given: Tensor, own: dict[str, shape.Shape]) -> shape.Shape:
    """Pieces of text and labels are as many as there are here."""
    by_row = name in PIECES or name.startswith(("answer.alone.", "answer.head.last."))
    rows = own[name][:1] if by_row and name in own else tuple(given.shape[:1])
    return (*rows, *given.shape[1:])


def _is_built_alike(name: str, here: Run, there: Run) -> bool:
    part, which, *_ = name.split(".")
    stages = [f"{which}_encoder"] if part == "encoders" else ["fusion", "head", "decoder"]
    built = [
        [getattr(run, stage).model_dump(exclude={"dropout"}) for stage in stages]
        for run in (here, there)
    ]
    return built[0] == built[1] and here.fusion.width == there.fusion.width


def take_over(network: Network, parts: Parts, parents: Sequence[Parent]) -> None:
    """Copy what the parents know into the network; where two know the same, the first counts.

    An encoder and its own answer come from any parent that reads its modality. The fusion and the
    head come only from one with the same modalities: they are about these together.

    Raises: ConfigError when an encoder was made with other settings.
    """
    own = network.state_dict()
    for name, answer in network.answer.named_parameters():
        if name.startswith("alone."):  # a label new to all parents begins with no opinion
            torch.nn.init.zeros_(answer)
    for parent in reversed(parents):
        for name, value in parent.weights.items():
            if name in own and _is_shared(name, network, parts, parent):
                _copy(name, value, own[name], parts, parent)


def _is_shared(name: str, network: Network, parts: Parts, parent: Parent) -> bool:
    for modality in network.modalities:
        if name.startswith((f"encoders.{modality}.", f"answer.alone.{modality}.")):
            return parent.info.kinds.get(modality) == parts.settings.kinds[modality]
    together = name.startswith(("answer.fusion.", "answer.head.", "answer.decoder."))
    return together and parent.info.kinds == parts.settings.kinds


def _copy(name: str, given: Tensor, own: Tensor, parts: Parts, parent: Parent) -> None:
    if name in PIECES and parent.vocabulary is not None and parts.vocabulary is not None:
        _copy_rows(given, own, _piece_names(parent.vocabulary), _piece_names(parts.vocabulary))
    elif name.startswith(("answer.alone.", "answer.head.last.")):
        _copy_rows(given, own, parent.info.labels or VALUE, parts.labels or VALUE)
    elif given.shape == own.shape:
        own.copy_(given)
    elif name.startswith("encoders."):
        modality: Modality = next(m for m in parts.settings.kinds if f".{m}." in name)
        raise ConfigError(
            f"{modality}_encoder or fusion.width differs from what {parent.info.name}, the model "
            f"to start from, was made with ({name} is {list(own.shape)} here, "
            f"{list(given.shape)} there); leave these settings out"
        )


def _copy_rows(given: Tensor, own: Tensor, there: Sequence[str], here: Sequence[str]) -> None:
    """Row by row, by name."""
    if given.shape[1:] != own.shape[1:]:
        return
    place = {name: row for row, name in enumerate(there)}
    known = [(row, place[name]) for row, name in enumerate(here) if name in place]
    if known:
        rows, places = map(list, zip(*known, strict=True))
        own[rows] = given[places].to(own.dtype)


def _piece_names(known: Vocabulary) -> list[str]:
    """The name of each row of an embedding; no piece is empty or a line's end."""
    return ["", "\n", *known.pieces]
