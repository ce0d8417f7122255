"""What mattered in a picture: each part hidden equally often, and the one that counts found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import SETTINGS, picture, png, train_once, write

from moodal import api, bundle
from moodal.preprocess.image import MEAN
from moodal.runtime import regions
from moodal.runtime.predict import Model
from moodal.runtime.regions import CELLS, WINDOW
from moodal.types import Prediction

GREY = np.rint(255 * MEAN).astype(np.uint8)
SIDE = CELLS + WINDOW - 1
CORNERS = {"upper left": (0, 0), "upper right": (0, -1), "lower left": (-1, 0), "inside": (3, 5)}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(train_once())


def shown(pixels: np.ndarray) -> np.ndarray:
    """All variants of a picture, in order."""
    return np.concatenate([variant.x for variant in regions.hide_each(pixels)])


@pytest.mark.parametrize("size", [16, 24, 30, 96])
def test_every_cell_is_hidden_equally_often(size: int) -> None:
    hidden = (shown(np.zeros((size, size, 3), np.uint8)) == GREY).all(3)  # (n, size, size)
    assert len(hidden) == SIDE**2
    assert (hidden.sum(0) == WINDOW**2).all()
    assert all(variant.mask.all() for variant in regions.hide_each(np.zeros((16, 16, 3), np.uint8)))


def test_the_picture_that_is_given_stays_as_it_is() -> None:
    pixels = np.full((16, 16, 3), 7, np.uint8)
    assert len(shown(pixels))
    assert (pixels == 7).all()


@pytest.mark.parametrize("where", CORNERS)
def test_of_an_answer_that_one_cell_decides_that_cell_weighs_most(where: str) -> None:
    row, column = CORNERS[where]
    pixels = np.zeros((32, 32, 3), np.uint8)
    cell = 32 // CELLS
    row, column = row % CELLS, column % CELLS
    pixels[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 255

    def score(variants: np.ndarray) -> np.ndarray:
        return (variants == 255).all(3).mean((1, 2))  # how much of the white cell is seen

    falls = score(pixels[None]) - score(shown(pixels))
    found = np.array(regions.weights(falls))
    assert np.unravel_index(found.argmax(), found.shape) == (row, column)
    assert (found == found.max()).sum() == 1
    assert found.max() == pytest.approx(1 / CELLS**2)


def test_a_weight_is_the_mean_over_the_squares_that_hide_the_cell() -> None:
    falls = np.zeros((SIDE, SIDE))
    falls[0, 0] = 4.0  # hides the first cell alone
    found = np.array(regions.weights(falls.ravel()))
    assert found[0, 0] == 4.0 / WINDOW**2
    assert found.sum() == found[0, 0]


def corner(label: str, rng: np.random.Generator) -> np.ndarray:
    """Grey with noise; what is good is a green corner, a sixteenth of the picture."""
    pixels = rng.normal(GREY, 25, (24, 24, 3)).clip(0, 255).astype(np.uint8)
    if label == "good":
        pixels[-6:, -6:] = picture(label, rng, side=6)
    return pixels


def test_a_model_that_learnt_to_look_at_one_corner_is_found_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = ["good", "bad"] * 24
    for i, label in enumerate(labels):
        (tmp_path / f"{i}.png").write_bytes(png(corner(label, rng)))
    rows = [{"id": str(i), "image": f"{i}.png", "label": label} for i, label in enumerate(labels)]
    file = write(tmp_path / "all.csv", rows)
    still = ("image.flip=0", "image.crop=0", "image.scale=0", "image.rotate_degrees=0")
    settings = (*SETTINGS, *still, f"cache={tmp_path / 'cache'}")
    model = api.train(file, valid=file, out=tmp_path / "model", settings=settings)
    for _ in range(5):
        answer = model.predict(image=corner("good", rng), explain=True)
        assert answer.label == "good"
        found = np.array(answer.regions)
        row, column = np.unravel_index(found.argmax(), found.shape)
        assert min(row, column) >= CELLS - 2, found.round(2)


def test_regions_weigh_the_answer_given_with_the_other_modalities_seen(model: Model) -> None:
    rng = np.random.default_rng(0)
    pixels = picture("good", rng)
    answer = model.predict(text="lovely", image=pixels, explain=True)
    assert answer.label is not None
    variants = [{"text": "lovely", "image": variant} for variant in shown(pixels)]
    answers = [a for a in model.predict_many(variants) if isinstance(a, Prediction)]
    falls = answer.confidence - np.array([a.probabilities[answer.label] for a in answers])
    assert np.array(answer.regions) == pytest.approx(np.array(regions.weights(falls)), abs=1e-6)


def test_without_a_picture_or_an_explanation_there_are_no_regions(model: Model) -> None:
    image = png(picture("bad", np.random.default_rng(1)))
    assert model.predict(text="lovely", explain=True).regions == ()
    assert model.predict(image=image).regions == ()
    assert len(model.predict(image=image, explain=True).regions) == CELLS
    assert bundle.load(train_once()).image.size % CELLS == 0


# ---- laid over the picture ---------------------------------------------------------------------


def weights(places: Sequence[tuple[int, int]], value: float) -> regions.Weights:
    grid = np.zeros((CELLS, CELLS))
    for place in places:
        grid[place] = value
    return tuple(map(tuple, grid.tolist()))


def colours(laid: Image.Image) -> Iterator[np.ndarray]:
    """The upper left and the lower right pixel."""
    pixels = np.asarray(laid).astype(int)
    yield from (pixels[0, 0], pixels[-1, -1])


def test_orange_speaks_for_the_answer_and_blue_against_it() -> None:
    paper = Image.new("RGB", (80, 40), (128, 128, 128))
    here, there = colours(regions.overlay(paper, weights([(0, 0)], 0.3)))
    assert here[0] > 180 > here[2], "orange"
    assert (there == 128).all()
    here, there = colours(regions.overlay(paper, weights([(-1, -1)], -0.3)))
    assert there[2] > 160 > there[0], "blue"
    assert (here == 128).all()


def test_what_matters_nowhere_leaves_a_grey_picture() -> None:
    laid = regions.overlay(Image.new("RGB", (9, 7), (90, 90, 90)), weights([], 0))
    assert laid.size == (9, 7)
    assert (np.asarray(laid) == 90).all()


def test_only_how_the_weights_compare_is_drawn(tmp_path: Path) -> None:
    paper = Image.new("RGB", (20, 20), "white")
    faint, strong = (regions.overlay(paper, weights([(2, 2)], w)) for w in (1e-6, 1.0))
    assert faint.tobytes() == strong.tobytes()
