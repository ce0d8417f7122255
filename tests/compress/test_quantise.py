"""Weights as integers: within half a step of what they were, and the answers hardly move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_model  # noqa: F401

import moodal
from moodal import api, bundle
from moodal.compress import quantise
from moodal.compress import weights as packing
from moodal.data import manifest
from moodal.errors import ConfigError
from moodal.runtime.predict import Outputs
from moodal.types import Prediction

SETTINGS = (*tiny.SETTINGS, "text_encoder.width=48", "image_encoder.width=32", "fusion.width=32")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model large enough to have weights worth it, and the same with integers."""
    home = tmp_path_factory.mktemp("quantise")
    data = tiny.rows(home / "data")
    settings = (*SETTINGS, f"cache={home / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=home / "whole", settings=settings)
    quantise.quantise(home / "whole", home / "small")
    return home / "whole", home / "small"


def test_integers_are_within_half_a_step_of_their_channel() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (5, 7)).astype(np.float32)
    weights[2] = 0
    for axis in (0, 1):
        whole, scales = packing.integers(weights, axis)
        back = whole * (scales[:, None] if axis == 0 else scales)
        step = scales[:, None] if axis == 0 else scales[None]
        assert whole.dtype == np.int8
        assert (np.abs(back - weights) <= step / 2 + 1e-7).all()
        assert np.abs(whole).max() == 127


def test_answers_hardly_move_and_the_bundle_is_much_smaller(pair: tuple[Path, Path]) -> None:
    whole, small = map(moodal.load, pair)
    rows = list(manifest.read(pair[0].parent / "data" / "dev.csv"))
    gaps = []
    for old, new in zip(whole.predict_many(rows), small.predict_many(rows), strict=True):
        assert isinstance(old, Prediction)
        assert isinstance(new, Prediction)
        gaps += [abs(old.probabilities[label] - p) for label, p in new.probabilities.items()]
    assert 0 < max(gaps) < 0.02
    assert bundle.size_bytes(pair[1]) < 0.6 * bundle.size_bytes(pair[0])
    assert bundle.load(pair[1]).weights == "int8"


def test_an_embedding_is_looked_up_as_integers(pair: tuple[Path, Path]) -> None:
    graph = onnx.load(pair[1] / "text.onnx").graph
    large = [t for t in graph.initializer if np.prod(t.dims) >= packing.SMALLEST]
    assert large
    assert all(t.data_type == TensorProto.INT8 or t.dims[-1] == 1 for t in large if len(t.dims) > 1)


def test_training_goes_on_from_integers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    data = pair[0].parent / "data"
    settings = ("train.epochs=1", "train.learning_rate=1e-12", "train.l2=0")
    child = api.train(
        data / "train.csv",
        valid=data / "dev.csv",
        out=tmp_path / "c",
        start=[pair[1]],
        settings=settings,
    )
    record = [{"text": "it was 精彩"}]
    found, expected = (next(m.outputs(record)) for m in (child, moodal.load(pair[1])))
    assert isinstance(found, Outputs)
    assert isinstance(expected, Outputs)
    np.testing.assert_allclose(found.raw[("text",)], expected.raw[("text",)], atol=1e-4)
    assert child.info.parents[0].startswith("small ")


def test_a_quantised_model_is_not_quantised_again(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8-bit integers already"):
        quantise.quantise(pair[1], tmp_path / "again")


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_linear_map_is_quantised_by_output_channel(transposed: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (40, 30)).astype(np.float32) * np.logspace(-3, 0, 30).astype(
        np.float32
    )
    bias = np.zeros(30, np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 30])],
        [
            numpy_helper.from_array(weights.T.copy() if transposed else weights, "w"),
            numpy_helper.from_array(bias, "b"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content = packing.graph(model.SerializeToString())
    x = rng.normal(0, 1, (3, 40)).astype(np.float32)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    found, expected = session.run(None, {"x": x})[0], x @ weights
    # A scale a channel: the error of the small channels is as small as they are.
    assert (np.abs(found - expected) < 0.03 * np.abs(weights).max(0) * 10).all()
    assert len(content) < 0.5 * len(model.SerializeToString())
