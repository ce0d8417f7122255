"""One modality's arrays to positions of the common width: `Seq -> Seq (B, S', D)`, never pooled;
what it says aside of the fusion stands behind the D numbers.

An encoder is a stem (what is special about the modality, in stems.py), a body (shared between
modalities) and a projection to the common width; each part takes a `Seq` and gives one. S' may be
smaller than S where a convolution strides; the mask follows. What lies under a False mask is
neither seen nor given.

Letters: B batch, S source positions, D the common width, W the width inside an encoder, K pieces of
one position, F frequency bands or picture columns, N channels of a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from moodal.model.layers import (
    ACTIVATIONS,
    Bidirectional,
    Blocks,
    Positions,
    SameConvolution,
    Windows,
    hide,
    masked_softmax,
)
from moodal.model.planes import Convolution, Inverted, Stage
from moodal.model.stems import (
    Aside,
    Bands,
    Beside,
    Both,
    Experts,
    Grid,
    Level,
    Part,
    Pixels,
    Power,
    Project,
    Shrink,
    Spectrum,
    Standardise,
    Statistics,
    TimeConvolution,
    Tokens,
    Whole,
)
from moodal.types import Seq


@dataclass(frozen=True, slots=True)
class Spec:
    """The plain arguments all builders share. out: D, the common width; the rest as in config."""

    out: int = 96
    width: int = 96
    layers: int = 2
    heads: int = 4
    kernel_size: int = 3
    activation: str = "gelu"
    dropout: float = 0.3


# Bodies: (B, S, W) -> (B, S, W)


class Perceptron(nn.Module):
    """Hidden layers, each position by itself."""

    def __init__(self, width: int, *, layers: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for _ in range(layers):
            self.layers.extend(
                [nn.Linear(width, width), ACTIVATIONS[activation](), nn.Dropout(dropout)]
            )

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(self.layers(source.x), source.mask)


class Ngrams(nn.Module):
    """Filters over 3, 4 and 5 positions side by side (from kernel_size up), added to their input.

    Source: Kim 2014, section 2, with the maximum over time left to the fusion; the sum with the
    input is He et al. 2016, equation 1.
    """

    def __init__(self, width: int, *, kernel_size: int, activation: str, dropout: float) -> None:
        super().__init__()
        sizes = range(kernel_size, kernel_size + 3)
        self.filters = nn.ModuleList(SameConvolution(width, width, size) for size in sizes)
        self.activation = ACTIVATIONS[activation]()
        self.mix = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = source
        found = torch.cat([f(x) for f in self.filters], 2)  # (B, S, 3W)
        return hide(Seq(x + self.dropout(self.mix(self.activation(found))), mask))


class Recurrent(nn.Module):
    """GRU or LSTM read from both ends; then each position is shown the whole, by attention.

    Source: the weights are the alignment model of Bahdanau et al. 2015, appendix A.1.2, without a
    decoder to ask: softmax over s of v . tanh(W h_s), as Yang et al. 2016, equations 5 to 7.
    """

    def __init__(
        self, cell: type[nn.GRU] | type[nn.LSTM], width: int, *, layers: int, dropout: float
    ) -> None:
        super().__init__()
        n_hidden = (width + 1) // 2
        n_in = [width] + [2 * n_hidden] * (layers - 1)
        self.layers = nn.ModuleList(Bidirectional(cell, n, n_hidden) for n in n_in)
        self.score = nn.Sequential(
            nn.Linear(2 * n_hidden, width), nn.Tanh(), nn.Linear(width, 1, bias=False)
        )
        self.mix = nn.Linear(4 * n_hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        for layer in self.layers:
            x, mask = layer(source)
            source = Seq(self.dropout(x), mask)
        x, mask = source
        weights = masked_softmax(self.score(x).squeeze(2), mask)  # (B, S)
        whole = (weights.unsqueeze(1) @ x).expand_as(x)
        return Seq(self.mix(torch.cat([x, whole], 2)), mask)


class Transformer(nn.Module):
    """Self-attention layers (layers.Blocks) over positions marked by sines."""

    def __init__(
        self, width: int, *, layers: int, heads: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.scale = nn.LayerNorm(width)
        self.positions = Positions(width)
        self.blocks = Blocks(width, heads, layers=layers, activation=activation, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = source
        x = self.blocks(self.positions(self.scale(x)), mask)
        return Seq(self.norm(x), mask)


# Builders: everything of a kind is chosen here, once

Body = Callable[[Spec], nn.Module]


def _as_is(spec: Spec) -> nn.Module:
    return nn.Identity()


def _perceptron(spec: Spec) -> nn.Module:
    return Perceptron(
        spec.width, layers=spec.layers, activation=spec.activation, dropout=spec.dropout
    )


def _ngrams(spec: Spec) -> nn.Module:
    layer = partial(
        Ngrams,
        spec.width,
        kernel_size=spec.kernel_size,
        activation=spec.activation,
        dropout=spec.dropout,
    )
    return nn.Sequential(*(layer() for _ in range(spec.layers)))


def _gru(spec: Spec) -> nn.Module:
    return Recurrent(nn.GRU, spec.width, layers=spec.layers, dropout=spec.dropout)


def _lstm(spec: Spec) -> nn.Module:
    return Recurrent(nn.LSTM, spec.width, layers=spec.layers, dropout=spec.dropout)


def _transformer(spec: Spec) -> nn.Module:
    return Transformer(
        spec.width,
        layers=spec.layers,
        heads=spec.heads,
        activation=spec.activation,
        dropout=spec.dropout,
    )


def _text(
    body: Body,
    vocabulary: int,
    spec: Spec,
    *,
    weights: Tensor | None = None,
    vectors: Tensor | None = None,
) -> nn.Sequential:
    """Seq(x (B, S, K) int64, mask) -> Seq (B, S, D)."""
    stem = Tokens(vocabulary, spec.width, dropout=spec.dropout, weights=weights, vectors=vectors)
    return nn.Sequential(stem, body(spec), Project(spec.width, spec.out, dropout=spec.dropout))


SPEAKERS = (0, 1, 2, 3, 1, 2, 3)
"""The expert of each score that experts say of a text: how positive it is rather than negative, and
of three of the four how neutral."""


def _with_experts(
    vocabulary: int,
    spec: Spec,
    *,
    weights: Tensor | None = None,
    vectors: Tensor | None = None,
) -> nn.Sequential:
    """As _text with _ngrams, and aside what experts say of the same pieces: of a piece's vector the
    first W numbers are the filters', those behind them theirs, which come from elsewhere.

    -> Seq (B, S, D + len(SPEAKERS)).
    """
    n_all = spec.width + Experts.reads(SPEAKERS)
    path = nn.Sequential(
        Part(0, spec.width, dropout=spec.dropout),
        _ngrams(spec),
        Project(spec.width, spec.out, dropout=spec.dropout),
    )
    says = nn.Sequential(Part(spec.width, n_all), Experts(SPEAKERS))
    stem = Tokens(vocabulary, n_all, weights=weights, vectors=vectors)
    return nn.Sequential(stem, Aside(path, says))


def _planes(
    n_in: int, channels: Sequence[int], strides: Sequence[int], spec: Spec
) -> nn.Sequential:
    """Stages: each halves the columns, and strides over the rows; residuals from the second on."""
    form: dict[str, Any] = {"kernel_size": spec.kernel_size, "activation": spec.activation}
    stages = nn.Sequential()
    for i, (n_out, stride) in enumerate(zip(channels, strides, strict=True)):
        first = Convolution(n_in, n_out, stride=(stride, 2), **form)
        stages.append(Stage(first, residuals=spec.layers - 1 if i else 0, **form))
        n_in = n_out
    return stages


def _picture(spec: Spec) -> nn.Sequential:
    """Seq(x (B, S, F, 3) uint8, mask (B, S)) -> Seq (B, ceil(S/16) * ceil(F/16), D)."""
    project = Project(2 * spec.width, spec.out, dropout=spec.dropout)
    return nn.Sequential(Pixels(), _halving(spec), Grid(), project)


def _halving(spec: Spec) -> nn.Sequential:
    """Planes of 3 channels -> planes of twice the width, a sixteenth of each side."""
    width = spec.width
    return _planes(3, (width // 4, width // 2, width, 2 * width), (2, 2, 2, 2), spec)


EFFICIENTNET = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
"""Layers, channels, filter size, stride of the first layer, widening. Source: Tan and Le,
EfficientNet (2019), table 1; the Lite form has neither squeeze-and-excitation nor swish:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite."""
FIRST, NEAR = 32, 5
"""Channels before the first of these; how many of them see parts rather than things."""
LAYERS = 1 + sum(layers for layers, *_ in EFFICIENTNET)
NEAR_LAYERS = 1 + sum(layers for layers, *_ in EFFICIENTNET[:NEAR])
"""All layers, and those that see parts; the one before these rows is counted."""
SHRUNK = 3 / 8
"""Of a side of 128 pixels, 48."""


def _efficientnet(spec: Spec) -> nn.Sequential:
    """As _picture, -> Seq (B, ceil(S/32) * ceil(F/32), D); its form is given, for weights that were
    trained elsewhere: of the spec only out and dropout count."""
    n_out = EFFICIENTNET[-1][1]
    stages = nn.Sequential(_first(), *_inverted(EFFICIENTNET, FIRST))
    return nn.Sequential(Pixels(), stages, Grid(), Project(n_out, spec.out, dropout=spec.dropout))


def _first() -> nn.Module:
    plain: dict[str, Any] = {"kernel_size": 3, "activation": "relu6"}
    return Stage(Convolution(3, FIRST, stride=(2, 2), lean=1, **plain), residuals=0, **plain)


def _inverted(form: Sequence[tuple[int, int, int, int, int]], n_in: int) -> nn.Sequential:
    """Planes of n_in channels -> planes. form: rows of EFFICIENTNET."""
    stages = nn.Sequential()
    for layers, n_out, kernel_size, stride, widening in form:
        layer = partial(Inverted, kernel_size=kernel_size, widening=widening)
        for i in range(layers):
            stages.append(layer(n_in, n_out, stride=1 if i else stride))
            n_in = n_out
    return stages


def _beside(spec: Spec) -> nn.Sequential:
    """As _picture at 3/8 of the size, beside what EfficientNet sees in the whole, after five stages
    and after all: it tells photographs apart, and few pictures suffice to learn from what it sees.
    """
    n_cell = 2 * spec.width
    path = nn.Sequential(Shrink(SHRUNK), _halving(spec), Grid())

    def says(n: int) -> tuple[nn.Module, ...]:
        return Grid(), Level(n), Statistics(n, n_cell)

    near, far = EFFICIENTNET[:NEAR], EFFICIENTNET[NEAR:]
    n_near, n_far = near[-1][1], far[-1][1]
    seen = nn.Sequential(_first(), *_inverted(near, FIRST))
    both = Both(nn.Sequential(*says(n_near)), nn.Sequential(_inverted(far, n_near), *says(n_far)))
    project = Project(n_cell, spec.out, dropout=spec.dropout)
    return nn.Sequential(Pixels(), Beside(path, nn.Sequential(seen, both)), project)


Figures = Sequence[float] | Tensor


def _sound(
    channels: Callable[[int], Sequence[int]],
    body: Body,
    mean: Figures,
    std: Figures,
    spec: Spec,
) -> nn.Sequential:
    """Seq(x (B, S, F) log-mel or MFCC, mask) -> Seq (B, S', D); S' = S/8, or S/4 with a body."""
    sizes = channels(spec.width)
    return nn.Sequential(
        Standardise(mean, std),
        Beside(
            nn.Sequential(
                Spectrum(),
                _planes(1, sizes, (2, 2, 2, 1)[: len(sizes)], spec),
                Bands(sizes[-1], spec.width),
                body(spec),
            ),
            Statistics(len(mean), spec.width),
        ),
        Project(spec.width, spec.out, dropout=spec.dropout),
    )


def _speech(body: Body, mean: Figures, std: Figures, spec: Spec) -> nn.Sequential:
    """Seq(x (B, S, F) log-mel or MFCC, mask) -> Seq (B, S/4, D), for what is said rather than how:
    two convolutions over time, which see every band, before the body."""
    delay = partial(
        TimeConvolution, stride=2, kernel_size=spec.kernel_size + 2, activation=spec.activation
    )
    return nn.Sequential(
        Standardise(mean, std),
        delay(len(mean), spec.width),
        delay(spec.width, spec.width),
        body(spec),
        Project(spec.width, spec.out, dropout=spec.dropout),
    )


VOICE_WIDTH = 256
"""Of each of three layers. Source: https://github.com/resemble-ai/Resemblyzer, a smaller form of
the network of Wan et al., Generalized End-to-End Loss for Speaker Verification (2018), section 3.1;
it hears 1.6 s at a time."""


def _voice(mean: Figures, std: Figures, spec: Spec) -> nn.Sequential:
    """Seq(x (B, S, F) log-mel, mask) -> Seq (B, 1, D); its form is given, for weights that were
    trained elsewhere, to tell speakers apart: of the spec only out, width and dropout count. Two
    frames of 10 ms are heard as one: half the time, and nearly as much is told."""
    return nn.Sequential(
        Power(2),
        Windows(len(mean), VOICE_WIDTH, layers=3, length=80),
        Whole(Statistics(2 * VOICE_WIDTH, spec.width, level=True)),
        Project(spec.width, spec.out, dropout=spec.dropout),
    )


def _vectors(body: Body, mean: Figures, std: Figures, spec: Spec) -> nn.Sequential:
    """Seq(x (B, S, D_in) precomputed features, mask) -> Seq (B, S, D)."""
    return nn.Sequential(
        Standardise(mean, std),
        Project(len(mean), spec.width),
        body(spec),
        Project(spec.width, spec.out, dropout=spec.dropout),
    )


def _deep(width: int) -> tuple[int, ...]:
    return width // 6, width // 3, 2 * width // 3, width


def _shallow(width: int) -> tuple[int, ...]:
    return width // 6, width // 3


TextBuilder = Callable[..., nn.Sequential]

TEXT: dict[str, TextBuilder] = {
    "bag": partial(_text, _as_is),
    "cnn": partial(_text, _ngrams),
    "gru": partial(_text, _gru),
    "lstm": partial(_text, _lstm),
    "transformer": partial(_text, _transformer),
    "cnn-experts": _with_experts,
}
"""kind -> (vocabulary, spec, *, weights=None, vectors=None) -> encoder."""

ASIDE = {"cnn-experts": len(SPEAKERS)}
"""kind -> numbers that it hands over behind D; 0 for any other."""

IMAGE: dict[str, Callable[[Spec], nn.Sequential]] = {
    "cnn": _picture,
    "efficientnet": _efficientnet,
    "cnn-efficientnet": _beside,
}
"""kind -> (spec) -> encoder."""

AUDIO: dict[str, Callable[[Figures, Figures, Spec], nn.Sequential]] = {
    "cnn": partial(_sound, _deep, _as_is),
    "gru": partial(_sound, _shallow, _gru),
    "lstm": partial(_sound, _shallow, _lstm),
    "transformer": partial(_sound, _shallow, _transformer),
    "ge2e": _voice,
    "tdnn-gru": partial(_speech, _gru),
    "tdnn-transformer": partial(_speech, _transformer),
}
"""kind -> (mean (F,), std (F,), spec) -> encoder."""

FEATURES: dict[str, Callable[[Figures, Figures, Spec], nn.Sequential]] = {
    "mlp": partial(_vectors, _perceptron),
    "gru": partial(_vectors, _gru),
    "lstm": partial(_vectors, _lstm),
}
"""kind -> (mean (D_in,), std (D_in,), spec) -> encoder."""
