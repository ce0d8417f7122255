"""The shapes of its weights are the truth of a network: layers as wide, and as many, as they say.

What was built from settings is cut to what a pruned model holds. A layer that only adds to its
input may be gone; heads of attention follow from the width of the query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from moodal.model.encoders import Ngrams
from moodal.model.layers import Block, MultiHeadAttention
from moodal.model.planes import Residual

Shape = tuple[int, ...]
RESIDUAL = (Residual, Block, Ngrams)
"""Layers that add to their input: without one, the input itself goes on."""


def stacks(network: nn.Module) -> dict[str, nn.ModuleList | nn.Sequential]:
    """Name -> layers in a row, each of which adds to what the one before gives."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and len(module)
        and all(isinstance(layer, RESIDUAL) for layer in module)
        and not name.endswith(BESIDE)
    }


BESIDE = ".blocks"
"""Blocks of one name stand beside each other, one a modality (fusion.Exchange)."""


def fit(network: nn.Module, shapes: Mapping[str, Shape]) -> None:
    """Cut a network to shapes, by name as state_dict has them; a name that is absent stays.

    What is cut anew holds nothing yet: load weights after. shapes: of any part of the network.
    """
    for name, stack in stacks(network).items():
        held = _places(name, shapes)
        if held or _speaks_of(name, shapes):
            del stack[held:]
    for name, module in network.named_modules():
        _fit_module(module, name, shapes)


def _places(name: str, shapes: Mapping[str, Shape]) -> int:
    """How many layers of a stack the shapes know."""
    start = f"{name}."
    return len({key[len(start) :].split(".")[0] for key in shapes if key.startswith(start)})


def _speaks_of(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether the part that a stack belongs to is among the shapes, so that no layer means none."""
    part = ".".join(name.split(".")[:2])  # encoders.text, answer.fusion
    return any(key.startswith(f"{part}.") for key in shapes)


def _fit_module(module: nn.Module, name: str, shapes: Mapping[str, Shape]) -> None:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    if isinstance(module, MultiHeadAttention) and (query := shapes.get(f"{name}.query.weight")):
        module.heads = query[0] * module.heads // module.query.out_features
    cut = False
    for part, values in own:
        shape = shapes.get(f"{name}.{part}" if name else part)
        if shape is not None and shape != tuple(values.shape):
            _set(module, part, values.new_zeros(shape))
            cut = True
    if cut:
        resized(module)


def _set(module: nn.Module, part: str, values: Tensor) -> None:
    if part in dict(module.named_parameters(recurse=False)):
        setattr(module, part, nn.Parameter(values))
    else:
        setattr(module, part, values)


def resized(module: nn.Module) -> None:
    """Make what a layer says of its widths agree with its weights."""
    for kind, read in WIDTHS.items():
        if isinstance(module, kind):
            for name, value in read(module).items():
                setattr(module, name, value)


def _recurrent(cell: Any) -> dict[str, Any]:
    return {
        "input_size": cell.weight_ih_l0.shape[1],
        "hidden_size": cell.weight_hh_l0.shape[1],
    }


def _filters(convolution: Any) -> dict[str, int]:
    """Either all channels are seen by each filter, or each is by its own."""
    n_out, n_in = convolution.weight.shape[:2]
    if convolution.groups == 1:
        return {"out_channels": n_out, "in_channels": n_in}
    return {"out_channels": n_out, "in_channels": n_out, "groups": n_out}


WIDTHS: dict[type[nn.Module], Callable[[Any], dict[str, Any]]] = {
    nn.Linear: lambda m: {"out_features": m.weight.shape[0], "in_features": m.weight.shape[1]},
    nn.Conv1d: lambda m: {"out_channels": m.weight.shape[0], "in_channels": m.weight.shape[1]},
    nn.Conv2d: _filters,
    nn.BatchNorm2d: lambda m: {"num_features": m.weight.shape[0]},
    nn.LayerNorm: lambda m: {"normalized_shape": tuple(m.weight.shape)},
    nn.Embedding: lambda m: {
        "num_embeddings": m.weight.shape[0],
        "embedding_dim": m.weight.shape[1],
    },
    nn.GRU: _recurrent,
    nn.LSTM: _recurrent,
}
