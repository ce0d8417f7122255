"""The graphs' runtime: it runs what it is given and keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from tiny import train_once

from moodal import bundle
from moodal.runtime.session import Sessions
from moodal.types import Seq


def test_an_absent_modality_is_a_false_mask_of_the_encoding_s_width() -> None:
    info = bundle.load(train_once())
    absent = Sessions(train_once(), info).absent("text", 3)
    assert absent.x.shape == (3, 1, info.encoding_width)
    assert absent.mask.shape == (3, 1)
    assert not absent.mask.any()


def test_what_stands_for_an_absent_modality_does_not_matter() -> None:
    sessions = Sessions(train_once(), bundle.load(train_once()))
    absent, rng = sessions.absent("text", 2), np.random.default_rng(0)
    text = Seq(rng.normal(size=(2, 3, 8)).astype(np.float32), np.ones((2, 3), np.bool_))
    noise = Seq(rng.normal(size=(2, 5, 8)).astype(np.float32), np.zeros((2, 5), np.bool_))
    plain = sessions.answer({"text": text, "image": absent, "audio": absent})
    noisy = sessions.answer({"text": text, "image": noise, "audio": absent})
    assert plain.shape == (2, 3)
    np.testing.assert_allclose(plain, noisy, atol=1e-5)


def test_nothing_is_written_or_sent_about_whoever_predicts(tmp_path: Path) -> None:
    """ONNX Runtime keeps a device's id and its unsent events in the user's cache folder."""
    quiet = {"CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"}
    environ = {key: value for key, value in os.environ.items() if key not in quiet}
    code = f"import moodal; print(moodal.load({str(train_once())!r}).predict(text='good').label)"
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environ | homes, check=True)
    assert list(tmp_path.iterdir()) == []
