"""From what was fused to the answer: `Fused -> Seq (B, 1, C)`, raw scores, one answer a record.

Letters: B batch, S source positions, D width, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from moodal.model.fusion import Fused
from moodal.model.layers import ACTIVATIONS, SameConvolution, hide, masked_max
from moodal.types import Seq


@dataclass(frozen=True, slots=True)
class Spec:
    """The plain arguments all builders share. hidden: 0 = none (mlp), as wide as D (cnn)."""

    width: int = 96
    n_out: int = 2
    hidden: int = 0
    activation: str = "gelu"
    dropout: float = 0.3


def last(n_in: int, n_out: int) -> nn.Linear:
    """The last layer starts small: the first answers are all near equally likely."""
    layer = nn.Linear(n_in, n_out)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


class Perceptron(nn.Module):
    """The summary through dropout, a hidden layer if there is to be one, and a linear map."""

    def __init__(
        self,
        width: int,
        n_out: int,
        *,
        hidden: int = 0,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(dropout))
        if hidden:
            self.layers.extend(
                [nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Dropout(dropout)]
            )
        self.last = last(hidden or width, n_out)

    def forward(self, fused: Fused) -> Seq[Tensor]:
        x, mask = fused.summary
        return hide(Seq(self.last(self.layers(x)), mask))


class Convolutional(nn.Module):
    """Filters over three neighbouring positions of all that was encoded, the maximum of each.

    Source: Kim 2014, section 2, over the encodings instead of the words.
    """

    def __init__(
        self,
        width: int,
        n_out: int,
        *,
        hidden: int = 0,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        n_filters = hidden or width
        self.filters = SameConvolution(width, n_filters, 3)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.last = last(n_filters, n_out)

    def forward(self, fused: Fused) -> Seq[Tensor]:
        x, mask = hide(fused.all)
        found = self.activation(self.filters(x))  # (B, S, n_filters)
        answer = self.last(self.dropout(masked_max(found, mask))).unsqueeze(1)
        return hide(Seq(answer, mask.any(1, keepdim=True)))


class Each(nn.Module):
    """A linear answer at every position by itself: (B, S, D) -> (B, S, C)."""

    def __init__(self, width: int, n_out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = last(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.dropout(x))
        return answer


def _perceptron(spec: Spec) -> nn.Module:
    return Perceptron(
        spec.width,
        spec.n_out,
        hidden=spec.hidden,
        activation=spec.activation,
        dropout=spec.dropout,
    )


def _convolutional(spec: Spec) -> nn.Module:
    return Convolutional(
        spec.width,
        spec.n_out,
        hidden=spec.hidden,
        activation=spec.activation,
        dropout=spec.dropout,
    )


HEADS: dict[str, Callable[[Spec], nn.Module]] = {"mlp": _perceptron, "cnn": _convolutional}
"""kind -> (spec) -> head."""
