"""Weights of the package that carries an encoder of voices, in a file that moodal reads. The
package itself is not needed: a file of the same form stands for it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from moodal import config
from moodal.errors import DataError
from moodal.model.encoders import AUDIO, Spec
from moodal.model.stems import Power
from moodal.preprocess import audio
from moodal.types import Seq
from recipes import voices


def theirs(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What Resemblyzer shows its network: the power in 40 bands, of a recording at -30 dB."""
    samples = samples * np.sqrt(voices.LEVEL / np.square(samples).mean())
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    framed = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * window
    power = np.abs(np.fft.rfft(framed)) ** 2
    return power @ voices.slaney(np.fft.rfftfreq(400, 1 / 16_000))


@pytest.fixture
def speech() -> np.ndarray[Any, Any]:
    """Two seconds of a buzz whose pitch falls, louder and quieter."""
    rng = np.random.default_rng(0)
    seconds = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(200 - 40 * seconds) / 16_000
    buzz = sum(np.cos(n * phase) / n for n in range(1, 40)) * (1.2 + np.sin(9 * seconds))
    return np.asarray(0.05 * buzz + 0.002 * rng.standard_normal(len(buzz)), np.float32)


def test_its_bands_are_put_together_from_moodals(speech: np.ndarray[Any, Any]) -> None:
    power = np.exp(audio.frames(speech, config.Audio()))
    shown = power / power.sum(1).mean() @ voices.bands()
    wanted = theirs(speech)
    assert shown.shape == wanted.shape
    assert shown.sum() == pytest.approx(wanted.sum(), rel=0.05)
    per_band = np.stack([shown.mean(0), wanted.mean(0)])
    assert np.corrcoef(np.log(per_band))[0, 1] > 0.98
    assert np.corrcoef(shown.ravel(), wanted.ravel())[0, 1] > 0.98


def test_the_network_hears_what_it_heard_there(
    speech: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    there = nn.LSTM(voices.N_BANDS, 256, 3, batch_first=True)
    state = {f"lstm.{name}": values for name, values in there.state_dict().items()}
    torch.save({"model_state": state | {"linear.bias": torch.zeros(256)}}, tmp_path / "given.pt")
    monkeypatch.setattr(voices, "path", lambda: tmp_path / "given.pt")
    voices.write(tmp_path / "voices.safetensors")
    frames = torch.from_numpy(audio.frames(speech, config.Audio()))[None, :160]
    encoder = AUDIO["ge2e"](torch.zeros(64), torch.ones(64), Spec()).eval()
    missing, unknown = encoder.load_state_dict(
        load_file(tmp_path / "voices.safetensors"), strict=False
    )
    assert not unknown
    assert all(name.startswith(("2.", "3.")) for name in missing), "all that listens is there"
    shown = torch.from_numpy(theirs(speech[: 159 * 160 + 400])).float()
    with torch.no_grad():
        here = encoder[1](Power(1)(Seq(frames, torch.ones(1, 160) > 0))).x[0, :, 256:]
        wanted = there(shown[None])[0][0]
    assert float((here - wanted).abs().mean()) < 0.05 * float(wanted.abs().mean())


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "changed"])
def test_without_the_known_package_it_says_what_to_install(
    missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> Any:
        if missing:
            raise PackageNotFoundError(name)
        return SimpleNamespace(locate_file=lambda _: tmp_path / "pretrained.pt")

    (tmp_path / "pretrained.pt").write_bytes(b"other weights")
    monkeypatch.setattr(voices, "distribution", found)
    with pytest.raises(DataError, match=r"Resemblyzer==0\.1\.4"):
        voices.write(tmp_path / "voices.safetensors")
    assert not (tmp_path / "voices.safetensors").exists()
