"""Which regions of a picture moved an answer: part after part hidden, on a grid of cells.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2:
the answer's score as a grey square covers one part of the picture after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moodal.preprocess.image import MEAN
from moodal.types import Seq

Array = NDArray[Any]

CELLS = 8
"""Rows and columns of the grid."""
WINDOW = 2
"""Height and width, in cells, of what is hidden at once: of a sight that one cell covers, too much
is left to know it by."""
WINDOWS_AT_ONCE = 27

FOR, AGAINST = (230, 120, 0), (0, 90, 200)
"""Orange and blue, which people who do not tell red from green do tell apart."""
OPAQUE = 0.75
"""How much of the colour there is, in [0, 1], where a region matters most."""
FADED = 0.6
"""How much of the picture's own colour is taken away beneath."""

Weights = tuple[tuple[float, ...], ...]


def hide_each(pixels: Array) -> Iterator[Seq[Array]]:
    """A picture behind a grey square, once for each place of the square, some at a time.

    pixels: (size, size, 3) uint8. The square stands at every cell and over every edge, so that each
    cell is hidden equally often. Yields: x (n, size, size, 3), mask (n, size), row by row, in all
    (CELLS + WINDOW - 1)^2.
    """
    grey = np.rint(255 * MEAN).astype(np.uint8)
    edges = np.rint(np.linspace(0, len(pixels), CELLS + 1)).astype(int)
    places = np.arange(CELLS + WINDOW - 1)
    spans = [
        slice(edges[start], edges[stop])
        for start, stop in zip(
            np.maximum(places - WINDOW + 1, 0), np.minimum(places + 1, CELLS), strict=True
        )
    ]
    squares = [(rows, columns) for rows in spans for columns in spans]
    for first in range(0, len(squares), WINDOWS_AT_ONCE):
        some = squares[first : first + WINDOWS_AT_ONCE]
        x = np.repeat(pixels[None], len(some), 0)
        for hidden, (rows, columns) in zip(x, some, strict=True):
            hidden[rows, columns] = grey
        yield Seq(x, np.ones(x.shape[:2], np.bool_))


def weights(falls: Array) -> Weights:
    """How much each cell matters: the mean fall of the score over the squares that hide it.

    falls: ((CELLS + WINDOW - 1)^2,) in the order of `hide_each`. Returns: CELLS rows of CELLS.
    """
    side = CELLS + WINDOW - 1
    views = np.lib.stride_tricks.sliding_window_view(falls.reshape(side, side), (WINDOW, WINDOW))
    mean = views.mean((2, 3), dtype=np.float64)  # (CELLS, CELLS)
    return tuple(tuple(row) for row in mean.tolist())


def overlay(picture: Image.Image, given: Weights) -> Image.Image:
    """The picture faded to grey, orange where a region spoke for the answer, blue where against it.

    picture: RGB, any size; the grid is stretched over the whole of it. given: as `weights`.
    """
    grid = np.array(given, np.float32)
    peak = np.abs(grid).max() or 1.0
    smooth = Image.fromarray(grid / peak).resize(picture.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), -1, 1)[:, :, None]
    pixels = np.asarray(picture, np.float32)
    grey = pixels.mean(2, keepdims=True)
    faded = pixels + FADED * (grey - pixels)
    colour = np.where(strength > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    laid = faded + OPAQUE * np.abs(strength) * (colour - faded)
    return Image.fromarray(np.rint(laid).clip(0, 255).astype(np.uint8))
