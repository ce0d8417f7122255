"""POST /v1/predict and /v1/predict/batch."""

from __future__ import annotations

import base64

import numpy as np
import pytest

import moodal
from tests.serve.conftest import Running
from tests.tiny import picture, png, tone, train_once, wav

RNG = np.random.default_rng(0)
PICTURE, SOUND = png(picture("good", RNG)), wav(tone("good", RNG))
GIVEN = {"text": "this film was great", "image": PICTURE, "audio": SOUND}


def test_a_form_is_answered_as_in_process(server: Running) -> None:
    expected = moodal.load(train_once()).predict(**GIVEN).to_dict()
    answer = server.send("/v1/predict", GIVEN).json()
    assert answer["label"] == expected["label"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert set(answer) == {*expected, "prediction_id", "model_version"}


def test_json_is_answered_as_a_form(server: Running) -> None:
    values = {m: v if m == "text" else base64.b64encode(v).decode() for m, v in GIVEN.items()}
    as_json = server.post("/v1/predict", values).json()
    as_form = server.send("/v1/predict", GIVEN).json()
    assert as_json["probabilities"] == pytest.approx(as_form["probabilities"], abs=1e-5)
