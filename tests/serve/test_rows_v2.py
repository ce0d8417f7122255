"""Protocol v2 of models that answer with a number or a text, or read numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from moodal import api
from tests import tiny
from tests.serve.v2 import answers, bytes_input, post


def test_a_number_comes_as_value(start: Any, tmp_path: Path) -> None:
    data = tiny.rows(tmp_path / "data", 24, numeric=True)
    settings = (*tiny.SETTINGS, f"task={tiny.NUMBERED}", "train.epochs=1", f"cache={tmp_path}/c")
    api.train(
        data / "train.csv", valid=data / "dev.csv", out=tmp_path / "numbers", settings=settings
    )
    server = start(model=tmp_path / "numbers")
    about = server.get("/v2/models/numbers").json()
    assert [output["name"] for output in about["outputs"]] == ["value", "prediction_id", "answer"]
    told = post(server, "numbers", {"inputs": [bytes_input("text", [1], ["great"])]}).json()
    data = {output["name"]: output["data"] for output in told["outputs"]}
    assert data["value"] == [json.loads(data["answer"][0])["value"]]


def test_a_model_that_writes_answers_with_text(start: Any) -> None:
    server = start(model=tiny.write_once())
    name = server.service.model.info.name
    about = server.get(f"/v2/models/{name}").json()
    assert [t["name"] for t in about["inputs"]] == ["text"]
    assert [t["name"] for t in about["outputs"]][:2] == ["text", "confidence"]
    said = tiny.article(np.random.default_rng(5))[0]
    told = post(server, name, {"inputs": [bytes_input("text", [1], [said])]}).json()
    data = {output["name"]: output["data"] for output in told["outputs"]}
    assert data["text"] == [json.loads(data["answer"][0])["text"]]


def test_features_are_numbers_and_a_row_of_nan_is_absent(start: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"text": rng.normal(i % 2, 0.1, 4).tolist(), "label": "ab"[i % 2]} for i in range(24)]
    written = "\n".join(map(json.dumps, rows))
    for part in ("train", "dev"):
        (tmp_path / f"{part}.jsonl").write_text(written, encoding="utf-8")
    settings = ("text_encoder.width=8", "fusion.width=8", "train.epochs=1")
    api.train(
        tmp_path / "train.jsonl",
        valid=tmp_path / "dev.jsonl",
        out=tmp_path / "vectors",
        settings=(*settings, f"cache={tmp_path}/c"),
    )
    server = start(model=tmp_path / "vectors")
    about = server.get("/v2/models/vectors").json()
    assert about["inputs"] == [{"name": "text", "datatype": "FP32", "shape": [-1, 4]}]
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        for shape in ([2, 4], [2, 3, 4]):
            values = np.ones(shape, np.float32)
            values[1] = np.nan
            given = triton.InferInput("text", shape, "FP32").set_data_from_numpy(values)
            told = answers(client.infer("vectors", [given]))
            assert [answer.get("modalities") for answer in told] == [["text"], None]
            assert "no modality" in told[1]["error"]["message"]
        values[0, 0, 0] = np.inf
        with pytest.raises(InferenceServerException, match="finite"):
            client.infer("vectors", [given.set_data_from_numpy(values[:1].repeat(2, 0))])
        wrong = triton.InferInput("text", [1, 5], "FP32")
        wrong.set_data_from_numpy(np.ones((1, 5), np.float32))
        with pytest.raises(InferenceServerException, match=r"\[B, 4\] or \[B, S, 4\]"):
            client.infer("vectors", [wrong])
