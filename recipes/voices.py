"""Resemblyzer's encoder of voices, trained to tell speakers apart, for `audio_encoder.weights`.

    pip install --no-deps Resemblyzer==0.1.4
    python -m recipes.voices FILE

The package carries it (1.4 M weights, Apache-2.0, no download), trained on the voices of
LibriSpeech and VoxCeleb. How somebody speaks it tells as well as who: few recordings suffice to
learn a mood from what it hears.
Sources: Wan et al., Generalized End-to-End Loss for Speaker Verification (2018); that such networks
know moods: Pappagari et al., X-Vectors Meet Emotions (2020).
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from moodal import config
from moodal.errors import DataError
from moodal.preprocess import audio

Array = NDArray[Any]

PACKAGE = "Resemblyzer==0.1.4"
WEIGHTS = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
N_BANDS, N_SAMPLES = 40, 400
"""It was shown the power in so many mel bands, of frames of so many samples."""
LEVEL = 1e-3
"""Mean square of the recordings it was shown: 30 dB below full scale."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    write(parser.parse_args().file)


def write(file: Path) -> None:
    """Its layers under the names of moodal's encoder `ge2e`, for `audio_encoder.weights`.

    Raises: DataError if the package is missing, or its weights are not those known here.
    """
    given = torch.load(path(), map_location="cpu", weights_only=True)["model_state"]
    tensors = {}
    for name, values in given.items():
        if name.startswith("lstm."):
            part, _, layer = name.removeprefix("lstm.").rpartition("_l")
            tensors[f"1.layers.{layer}.{part}_l0"] = values.contiguous()
    first = "1.layers.0.weight_ih_l0"
    tensors[first] = tensors[first] @ torch.from_numpy(bands()).T
    save_file(tensors, file)


def path() -> Path:
    """Of the weights. The package is not imported: it would need many others."""
    try:
        found = distribution(PACKAGE.partition("==")[0])
    except PackageNotFoundError:
        raise DataError(f"Resemblyzer is missing: pip install --no-deps {PACKAGE}") from None
    file = Path(str(found.locate_file("resemblyzer/pretrained.pt")))
    if hashlib.sha256(file.read_bytes()).hexdigest() != WEIGHTS:
        raise DataError(f"{file.name} is not the file of {PACKAGE}: install that again")
    return file


def bands() -> Array:
    """(F, N_BANDS): from moodal's power, the mean of whose frames is 1, to what it was shown."""
    own = audio.mel_filters(N_SAMPLES, config.Audio().n_mels)
    n_fft = 2 * (len(own) - 1)
    hertz = np.fft.rfftfreq(n_fft, 1 / audio.SAMPLE_RATE)
    # A spectrum of more lines adds up to more.
    mixed = _mixed(own, slaney(hertz) * N_SAMPLES / n_fft)
    # Parseval: a frame's power over all lines is n_fft / 2 times its sum of squares, which the
    # window makes smaller: the mean of its squares is 0.375.
    frame = 0.375 * N_SAMPLES * n_fft / 2
    return np.asarray(LEVEL * frame * mixed, np.float32)


def slaney(hertz: Array) -> Array:
    """(n, N_BANDS): triangles of unit area over these lines, their corners equally far apart in
    mel: 15 to 1 kHz, and above 27 for each factor of 6.4.

    Source: Slaney, Auditory Toolbox (1998), as librosa.filters.mel has it.
    """
    step = np.log(6.4) / 27
    top = 15 + np.log(audio.SAMPLE_RATE / 2 / 1000) / step
    mel = np.linspace(0, top, N_BANDS + 2)
    corners = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))
    widths = np.diff(corners)
    rising = (hertz[:, None] - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - hertz[:, None]) / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (corners[2:] - corners[:-2]))


def _mixed(own: Array, wanted: Array) -> Array:
    """x >= 0 for which own @ x is nearest to what is wanted. Source: Lee and Seung, Algorithms for
    Non-negative Matrix Factorization (2001), theorem 1."""
    x = np.ones((own.shape[1], wanted.shape[1]))
    for _ in range(2000):
        x *= (own.T @ wanted) / np.maximum(own.T @ own @ x, 1e-30)
    return x


if __name__ == "__main__":
    main()
