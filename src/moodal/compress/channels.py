"""Which channels and heads go: what hangs together, by a dependency graph, and what it is worth.

Where a channel of one layer goes, so does what the next makes of it; torch-pruning finds these
groups (Fang et al., DepGraph: Towards Any Structural Pruning, 2023). What it cannot follow is shown
to it as a stand-in with the same inputs and outputs: a recurrent cell, and the sum of an embedding.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.model.answers import Frames, Text
from moodal.model.encoders import Transformer
from moodal.model.layers import Block, MultiHeadAttention
from moodal.model.model import Network
from moodal.model.shape import resized
from moodal.model.stems import Aside, Part, Project, Tokens
from moodal.types import Modality, Seq

Examples = Mapping[Modality, Seq[Tensor]]
Group = Any
"""A group of torch-pruning: (what is cut, how; which places of it), the first being the root."""
CELLS = (nn.GRU, nn.LSTM)
LEAST = 4
"""Channels that stay in a layer."""
ROOTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)


class Channels:
    """What of a network can be cut. examples: modality -> two rows (B, S, ...), to follow."""

    def __init__(self, network: Network, examples: Examples) -> None:
        self.network = network
        self.names = {module: name for name, module in network.named_modules()}
        self.graph = tp.DependencyGraph()
        with _stand_ins(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters outside layers, none of which is cut
            self.graph.build_dependency(
                network,
                None,
                forward_fn=lambda model, _: _followed(network, examples),
                customized_pruners={StandIn: _Cell()},
                verbose=False,
            )
            _join_features(self.graph)
            found = list(self.graph.get_all_groups(root_module_types=(*ROOTS, StandIn)))
        kept = _kept(network)
        self.groups = [group for group in found if self._is_free(group, kept)]

    def _is_free(self, group: Group, kept: set[nn.Module]) -> bool:
        """Whether nothing that must keep its width is cut: see _kept and _Fixed."""
        if any(isinstance(dep.target.module, _Fixed) for dep, _ in group):
            return False
        fits = self.graph.is_out_channel_pruning_fn
        cut = [d.target.module for d, _ in group if fits(d.handler) and not _is_single(d)]
        layers = [m for m in cut if m in self.names or isinstance(m, StandIn)]
        return bool(layers) and not any(isinstance(m, nn.Parameter) or m in kept for m in cut)

    def worth(self, losses: Iterable[Tensor]) -> list[Tensor]:
        """Of each group (n,): how much the loss would change without a channel, to first order, the
        mean over some batches.

        That of an activation a is a * dL/da, which is the sum of w * dL/dw over what reads it.
        Source: Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient
        Inference (2017), equation 7.
        """
        total = [torch.zeros(len(group[0].idxs)) for group in self.groups]
        n = 0
        for loss in losses:
            n += 1
            self.network.zero_grad()
            torch.autograd.backward(loss)
            for place, group in enumerate(self.groups):
                total[place] += self._felt(group).abs()
        self.network.zero_grad()
        return [values / max(1, n) for values in total]

    def _felt(self, group: Group) -> Tensor:
        """(n,): w * dL/dw, summed over what reads each channel."""
        found = torch.zeros(len(group[0].idxs))
        for item in group:
            weight = _reads(item.dep)
            if weight is not None and weight.grad is not None:  # the batch may lack a modality
                read = (weight.detach() * weight.grad).transpose(0, 1).flatten(1).sum(1)
                found.index_add_(0, torch.tensor(item.root_idxs), read[item.idxs].cpu())
        return found

    def cut(self, worth: list[Tensor], share: float) -> dict[str, list[int]]:
        """Take this share of each group away, the least worth first; of attention whole heads.

        Returns: layer -> its width before and after.
        """
        done: dict[str, list[int]] = {}
        cuts: dict[tuple[nn.Module, Any], set[int]] = {}
        for group, values in zip(self.groups, worth, strict=True):
            (dep, _), n = group[0], len(values)
            root, attention = dep.target.module, self._attention(group)
            gone = _least(values, share, attention.heads if attention else n)
            if not gone:
                continue
            for cut, places in self.graph.get_pruning_group(root, dep.handler, gone):
                if not _is_single(cut):
                    cuts.setdefault((cut.target.module, cut.handler), set()).update(places)
            if attention:
                attention.heads -= round(len(gone) * attention.heads / n)
            inner = root.cell if isinstance(root, StandIn) else root
            done[self.names[inner]] = [n, n - len(gone)]
        # All at once: places are counted in the layers as they were.
        for (layer, take), places in cuts.items():
            if layer in self.names or isinstance(layer, StandIn):
                take(layer, sorted(places))
        return done

    def _attention(self, group: Group) -> MultiHeadAttention | None:
        root = group[0].dep.target.module
        attentions = (m for m in self.names if isinstance(m, MultiHeadAttention))
        return next((m for m in attentions if root in (m.query, m.key, m.value)), None)


def _reads(dep: Any) -> Tensor | None:
    """The weights (n_out, n_in, ...) that a layer multiplies the channels with which it reads; a
    cell reads its own as well."""
    layer, reads = dep.target.module, dep.handler.__name__ == "prune_in_channels"
    weight: Tensor | None = None
    if isinstance(layer, StandIn):
        weight = layer.cell.weight_ih_l0 if reads else layer.cell.weight_hh_l0
    elif reads and isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        weight = layer.weight
    return weight


def _is_single(dep: Any) -> bool:
    """A weight for each position, one number, is multiplied with all channels: it is none."""
    layer = dep.target.module
    is_out = dep.handler.__name__ == "prune_out_channels"
    return isinstance(layer, nn.Linear) and layer.out_features == 1 and is_out


def _least(values: Tensor, share: float, n_parts: int) -> list[int]:
    """The places of the parts that are worth least; a part is a channel, or all those of a head."""
    size = len(values) // n_parts
    parts = values.reshape(n_parts, size).sum(1)
    stay = max(1, math.ceil(LEAST / size), n_parts - math.floor(share * n_parts + 0.5))
    gone = parts.argsort()[: max(0, n_parts - stay)].tolist()
    return sorted(part * size + i for part in gone for i in range(size))


def _kept(network: Network) -> set[nn.Module]:
    """Layers that keep their width: what hands over the common width, whatever takes part in the
    fusion but the inside of its blocks, vectors marked with positions, whose sines belong to their
    places, and an embedding that a decoder shares."""
    kept: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, Transformer):
            kept |= {module.scale, module.norm}
        inner = isinstance(module, Block) and module
        if name.startswith("answer.") and not inner:
            kept.add(module)
    for module in network.modules():
        if isinstance(module, Block):
            kept -= {module.attention.query, module.attention.key, module.attention.value}
            kept.discard(module.feed_forward[1])
    for encoder in network.encoders.values():
        kept.add(_last(encoder).linear)
    kept -= set(_hidden(network))
    if isinstance(network.answer, Text):
        kept.add(network.answer.decoder.embedding)
    return kept


def _last(encoder: Any) -> Project:
    """What hands over the common width."""
    last = encoder[-1]
    if isinstance(last, Aside):
        last = last.path[-1]  # type: ignore[index]
    assert isinstance(last, Project), "an encoder ends in the common width"
    return last


def _hidden(network: Network) -> Iterator[nn.Module]:
    """Layers inside the head, before its last."""
    for name, module in network.named_modules():
        if name in ("answer.head.layers.1", "answer.head.filters.convolution"):
            yield module


def _followed(network: Network, examples: Examples) -> list[Tensor]:
    """Everything that what is cut takes part in, as tensors that know where they come from."""
    encoded = {m: network.encoders[m](examples[m]) for m in network.modalities}
    told = [seq.x for seq in encoded.values()]
    answer = network.answer
    if isinstance(answer, Frames):
        return [*told, answer.head(encoded["audio"].x)]
    fused = answer.fusion(encoded) if isinstance(answer, Text) else answer.fuse(encoded)
    told += [fused.summary.x, fused.all.x]
    return told if isinstance(answer, Text) else [*told, answer.head(fused).x]


FEATURES = 2
"""The axis of (B, S, D) that channels are counted along."""


def _join_features(graph: Any) -> None:
    """torch-pruning takes a cat for one of channels only along axis 1, as of planes (B, N, S, F);
    one whose axis it does not know it judges by the sizes. Seen of 1.6.1."""
    for node in graph.module2node.values():
        if isinstance(node.module, tp.ops._ConcatOp) and node.grad_fn._saved_dim == FEATURES:
            node.grad_fn = None


# Stand-ins


class StandIn(nn.Module):
    """A recurrent cell as one linear layer; what is cut is cut of the cell."""

    def __init__(self, cell: nn.GRU | nn.LSTM) -> None:
        super().__init__()
        self.cell: Any = cell

    def forward(self, x: Tensor, state: object = None) -> tuple[Tensor, None]:
        weight = x.new_zeros(self.cell.hidden_size, self.cell.input_size).requires_grad_()
        return F.linear(x, weight), None  # what has no gradient leaves no trace


class _Lookup(nn.Module):
    """Tokens with an embedding that is a layer of its own: embedding_bag is none."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x = self.tokens.resize(self.tokens.embedding(source.x).sum(2))
        return Seq(x.masked_fill(~source.mask.unsqueeze(2), 0), source.mask)


class _Picked(nn.Module):
    """Part as a linear layer; what it reads and what it gives keep their places."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.linear = _Fixed(part.last, part.last - part.first)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(self.linear(source.x[:, :, : self.linear.in_features]), source.mask)


class _Fixed(nn.Linear):
    """None of whose channels can be cut."""


class _Cell(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """How torch-pruning cuts a cell: its hidden numbers, and what it reads."""

    def prune_out_channels(self, layer: StandIn, idxs: list[int]) -> nn.Module:
        cell: Any = layer.cell
        stay = _stay(cell.hidden_size, idxs)
        gates = len(cell.weight_hh_l0) // cell.hidden_size
        rows = torch.cat([stay + gate * cell.hidden_size for gate in range(gates)])
        cell.weight_ih_l0 = nn.Parameter(cell.weight_ih_l0.detach()[rows])
        cell.weight_hh_l0 = nn.Parameter(cell.weight_hh_l0.detach()[rows][:, stay])
        cell.bias_ih_l0 = nn.Parameter(cell.bias_ih_l0.detach()[rows])
        cell.bias_hh_l0 = nn.Parameter(cell.bias_hh_l0.detach()[rows])
        resized(cell)
        return layer

    def prune_in_channels(self, layer: StandIn, idxs: list[int]) -> nn.Module:
        cell: Any = layer.cell
        stay = _stay(cell.input_size, idxs)
        cell.weight_ih_l0 = nn.Parameter(cell.weight_ih_l0.detach()[:, stay])
        resized(cell)
        return layer

    def get_out_channels(self, layer: StandIn) -> int:
        return int(layer.cell.hidden_size)

    def get_in_channels(self, layer: StandIn) -> int:
        return int(layer.cell.input_size)


def _stay(n: int, gone: list[int]) -> Tensor:
    return torch.tensor(sorted(set(range(n)) - set(gone)))


@contextmanager
def _stand_ins(network: Network) -> Iterator[None]:
    """What cannot be followed, replaced while it lasts. A decoder's cell is not on the way."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for encoder in network.encoders.values():
        for parent in list(encoder.modules()):
            for name, child in list(parent.named_children()):
                stand_in = _stand_in(child)
                if stand_in is not None:
                    replaced.append((parent, name, child))
                    setattr(parent, name, stand_in)
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.GRU | nn.LSTM):
        return StandIn(module)
    if isinstance(module, Part):
        return _Picked(module)
    return _Lookup(module) if isinstance(module, Tokens) else None
