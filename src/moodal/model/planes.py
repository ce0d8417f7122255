"""Convolutions over planes: pictures, and sound as time x frequency; rows may be absent.

Letters: B batch, N channels of a plane, S rows, F columns. As in layers.py, nothing here branches
on what a tensor holds, and what lies under a False mask is not seen.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from moodal.errors import ConfigError
from moodal.model.layers import ACTIVATIONS
from moodal.types import Seq


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that a single value a channel can be trained with: it has no spread of
    its own, and is judged by what came before."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        y: Tensor = super().forward(x)
        return y


class Convolution(nn.Module):
    """Convolution, batch normalisation, activation; rows that are not real are zeroed again.

    lean: how far the zeros around a picture are moved to what comes after it.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        kernel_size: int,
        stride: tuple[int, int],
        activation: str,
        lean: int = 0,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"kernel_size={kernel_size} is even; over pictures and sound it must be odd: "
                "set 3, 5 or 7"
            )
        half = kernel_size // 2
        self.borders = (half - lean, half + lean) * 2 if lean else None
        self.convolution = nn.Conv2d(
            n_in,
            n_out,
            kernel_size,
            stride=stride,
            padding=0 if lean else half,
            bias=False,
        )
        self.norm = BatchNorm(n_out)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        """x: (B, N, S, F), shown: (B, 1, S', 1), 1 = real -> (B, N', S', F')."""
        if self.borders is not None:
            x = F.pad(x, self.borders)
        y: Tensor = self.activation(self.norm(self.convolution(x))) * shown
        return y


class Residual(nn.Module):
    """Two convolutions, added to their input. Source: He et al. 2016, equation 1."""

    def __init__(self, n: int, *, kernel_size: int, activation: str) -> None:
        super().__init__()
        convolution = partial(Convolution, kernel_size=kernel_size, activation=activation)
        self.first = convolution(n, n, stride=(1, 1))
        self.second = convolution(n, n, stride=(1, 1))

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        y: Tensor = x + self.second(self.first(x, shown), shown)
        return y


class Stage(nn.Module):
    """A convolution that strides, then residual ones: planes (B, N, S, F) -> (B, N', S', F')."""

    def __init__(
        self, first: Convolution, *, residuals: int, kernel_size: int, activation: str
    ) -> None:
        super().__init__()
        n_out = first.convolution.out_channels
        self.stride = first.convolution.stride[0]
        self.first = first
        self.rest = nn.ModuleList(
            Residual(n_out, kernel_size=kernel_size, activation=activation)
            for _ in range(residuals)
        )

    def forward(self, planes: Seq[Tensor]) -> Seq[Tensor]:
        mask = planes.mask[:, :: self.stride]
        shown = mask[:, None, :, None].to(planes.x.dtype)
        x = self.first(planes.x, shown)
        for residual in self.rest:
            x = residual(x, shown)
        return Seq(x, mask)


class Inverted(nn.Module):
    """Widen every cell, filter each channel by itself, narrow again: planes (B, N, S, F) -> (B, N',
    S', F'); added to the input where nothing strides and N' = N.

    Rows that are not real are zeroed where neighbours are looked at, before the filter, and nowhere
    else. Where it strides it leans to what comes after, as TensorFlow's "SAME" does with even
    sizes: weights that were trained there rely on it.
    Source: Sandler et al., MobileNetV2 (2018), section 3.3, figure 3d.
    """

    def __init__(
        self, n_in: int, n_out: int, *, stride: int, kernel_size: int, widening: int
    ) -> None:
        super().__init__()
        self.stride, self.adds = stride, stride == 1 and n_in == n_out
        wide, half, lean = widening * n_in, kernel_size // 2, stride - 1
        self.widen = (
            Convolution(n_in, wide, kernel_size=1, stride=(1, 1), activation="relu6")
            if widening > 1
            else None
        )
        self.filter = nn.Sequential(
            nn.ZeroPad2d((half - lean, half + lean) * 2),
            nn.Conv2d(wide, wide, kernel_size, stride=stride, groups=wide, bias=False),
            BatchNorm(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, n_out, 1, bias=False),
            BatchNorm(n_out),
        )
        for part in self.modules():  # He et al. 2015, equation 10: or little is left after 50
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def forward(self, planes: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = planes
        shown = mask[:, None, :, None].to(x.dtype)
        x = self.filter(x * shown if self.widen is None else self.widen(x, shown))
        return Seq(planes.x + x if self.adds else x, mask[:, :: self.stride])
