"""Where a run starts from: trained models whose words and weights it takes over.

Weights are matched by what they stand for: those of a piece of text by the piece, those of an
answer by its label, those of a modality in the fusion by the modality, all others by their place.
What has no counterpart starts as in any run, but for what a modality says alone, which starts from
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import load as tensors_of
from torch import Tensor

from moodal import bundle, config
from moodal.config import Run
from moodal.errors import ConfigError
from moodal.model import shape
from moodal.model.fusion import ordered
from moodal.model.model import Network
from moodal.preprocess.batch import Lexicon
from moodal.preprocess.vocabulary import Vocabulary
from moodal.training.examples import Parts
from moodal.types import MODALITIES, Modality

VALUE = ("value",)
"""Stands for the labels of a model that answers with a number."""
AXES = (
    (r"encoders\.text\.0\.(embedding\.weight|weights)", ("pieces",)),
    (r"answer\.(alone\.\w+|head\.last)\.(weight|bias)", ("labels",)),
    (r"answer\.fusion\.entry\.names", ("modalities",)),
    (r"answer\.fusion\.summary\.presence\.weight", ("", "modalities")),
    (r"answer\.fusion\.unite\.hidden\.weight", ("", "modalities")),
    (r"answer\.fusion\.unite\.gates\.(weight|bias)", ("modalities", "modalities")),
)
"""What the axes of a weight count, where it is not places: each has a block of rows, or columns."""
NUMBERED = re.compile(
    r"(answer\.fusion\.(?:pools\.pools|unite\.\w+|entry\.norms|layers\.\d+\.blocks)\.)(\d+)\."
)
WHOLE = ("tensor", "crossmodal")
"""Fusions that sum up all their modalities at once: none goes through alone."""


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
    tensors = tensors_of(bundle.read(folder, info, bundle.WEIGHTS))
    weights = {_renamed(name, info.kinds): t for name, t in _unpacked(tensors).items()}
    run = config.parse(yaml.safe_load(bundle.read(folder, info, bundle.CONFIG)))
    return Parent(info, weights, words, run)


def _unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As float32, whichever way they were kept."""
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(bundle.SCALE)}
    for name, scale in scales.items():
        whole = tensors[name.removesuffix(bundle.SCALE)]
        shape = (-1,) + (1,) * (whole.ndim - 1)
        tensors[name.removesuffix(bundle.SCALE)] = whole.float() * scale.reshape(shape)
    return tensors


def _renamed(name: str, kinds: Mapping[Modality, str]) -> str:
    """The first bundles number the modalities where later ones name them."""
    modalities = ordered(tuple(kinds))
    return NUMBERED.sub(lambda found: f"{found[1]}{modalities[int(found[2])]}.", name)


def lexicon(parents: Sequence[Parent]) -> Lexicon | None:
    """What texts are made of, as far as it is known beforehand."""
    return next((p.lexicon for p in parents if p.lexicon is not None), None)


Counted = Mapping[str, Sequence[str]]
"""What an axis counts -> the names along it."""


def resize(network: Network, run: Run, parts: Parts, parents: Sequence[Parent]) -> None:
    """Make a network as narrow as the parents were pruned to be, where it is built by the same
    settings as they were; where it is not, take_over says so."""
    own = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    for parent in reversed(parents):
        wanted = {
            name: _shape(name, values, own)
            for name, values in parent.weights.items()
            if _is_shared(name, run, parts, parent) and _is_built_alike(name, run, parent.run)
        }
        shape.fit(network, wanted)


def _shape(name: str, given: Tensor, own: Mapping[str, shape.Shape]) -> shape.Shape:
    """What is counted by name is as many as there are here."""
    counts = _counts(name)
    here = own.get(name, tuple(given.shape))
    return tuple(
        here[axis] if axis < len(counts) and counts[axis] else n
        for axis, n in enumerate(given.shape)
    )


def _counts(name: str) -> tuple[str, ...]:
    return next((counts for pattern, counts in AXES if re.fullmatch(pattern, name)), ())


def _is_built_alike(name: str, here: Run, there: Run) -> bool:
    part, which, *_ = name.split(".")
    stages = [f"{which}_encoder"] if part == "encoders" else ["fusion", "head", "decoder"]
    built = [
        [getattr(run, stage).model_dump(exclude={"dropout"}) for stage in stages]
        for run in (here, there)
    ]
    return built[0] == built[1] and here.fusion.width == there.fusion.width


def take_over(network: Network, run: Run, parts: Parts, parents: Sequence[Parent]) -> None:
    """Copy what the parents know into the network; where two know the same, the first counts.

    An encoder and its own answer come from any parent that reads its modality, and so do its parts
    of the fusion. The rest of the fusion and the head come from the first parent: of the modalities
    that it reads, alone or together, the answers begin as its own.

    Raises: ConfigError when an encoder was made with other settings.
    """
    own = network.state_dict()
    shapes = {name: tuple(values.shape) for name, values in own.items()}
    for name, answer in network.answer.named_parameters():
        if name.startswith("alone."):  # a label new to all parents begins with no opinion
            torch.nn.init.zeros_(answer)
    for parent in reversed(parents):
        there = _counted(parent.info.labels, parent.info.kinds, parent.vocabulary)
        here = _counted(parts.labels, parts.settings.kinds, parts.vocabulary)
        for name, value in parent.weights.items():
            if name not in own or not _is_shared(name, run, parts, parent):
                continue
            if _shape(name, value, shapes) == shapes[name]:
                _copy(name, value, own[name], there, here)
            elif name.startswith("encoders."):
                raise _other_settings(name, value, own[name], parent)


def _counted(
    labels: Sequence[str], kinds: Mapping[Modality, str], vocabulary: Vocabulary | None
) -> Counted:
    counted = {"labels": labels or VALUE, "modalities": ordered(tuple(kinds))}
    if vocabulary is not None:
        # The name of each row of an embedding; no piece is empty or a line's end.
        counted["pieces"] = ["", "\n", *vocabulary.pieces]
    return counted


def _modalities(name: str) -> set[Modality]:
    """Those that a weight is about: encoders.text.0.weights, answer.fusion...text_asks_image..."""
    return {m for m in MODALITIES if m in re.split(r"[._]", name)}


def _is_shared(name: str, run: Run, parts: Parts, parent: Parent) -> bool:
    here, there = parts.settings.kinds, parent.info.kinds
    alike = {m for m in here if there.get(m) == here[m]}
    if name.startswith(("encoders.", "answer.alone.")):
        return _modalities(name) <= alike
    if not name.startswith("answer.") or not _is_built_alike(name, run, parent.run):
        return False
    if name.startswith("answer.decoder.") or run.fusion.kind in WHOLE:
        return here == there
    return bool(alike) and _modalities(name) <= alike


def _other_settings(name: str, given: Tensor, own: Tensor, parent: Parent) -> ConfigError:
    (modality,) = _modalities(name)
    return ConfigError(
        f"{modality}_encoder or fusion.width differs from what {parent.info.name}, the model "
        f"to start from, was made with ({name} is {list(own.shape)} here, "
        f"{list(given.shape)} there); leave these settings out"
    )


def _copy(name: str, given: Tensor, own: Tensor, there: Counted, here: Counted) -> None:
    """Block by block along the axes that count something, by name."""
    found, places = given.to(own.dtype), list[Tensor]()
    for axis, counts in enumerate(_counts(name)[: given.ndim]):
        sides = (there.get(counts), here.get(counts))
        if sides[0] is None or sides[1] is None:
            rows = columns = torch.arange(own.shape[axis])
        else:
            rows, columns = _meeting(sides[0], sides[1], own.shape[axis] // len(sides[1]))
        found = found.index_select(axis, rows)
        places.append(columns)
    own[torch.meshgrid(*places, indexing="ij") if places else ...] = found


def _meeting(there: Sequence[str], here: Sequence[str], block: int) -> tuple[Tensor, Tensor]:
    """Where the names that stand in both have their blocks, there and here."""
    place = {name: row for row, name in enumerate(there)}
    known = [(place[name], row) for row, name in enumerate(here) if name in place]
    pairs = torch.tensor(known, dtype=torch.int64).reshape(-1, 2, 1) * block
    rows, columns = (pairs + torch.arange(block)).unbind(1)
    return rows.flatten(), columns.flatten()
