"""Weights as integers: within half a step of what they were, and the answers hardly move."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import quantised
import tiny
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from tiny import tiny_model  # noqa: F401

import moodal
from moodal import api, bundle
from moodal.compress import calibration, quantise
from moodal.compress import weights as packing
from moodal.compress.plan import Plan
from moodal.data import manifest
from moodal.errors import ConfigError, DataError
from moodal.runtime.predict import Outputs
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS
from moodal.training import start
from moodal.types import Prediction, Record, Rejection


@pytest.fixture(scope="module")
def pair() -> tuple[Path, Path]:
    """A model large enough to have weights worth it, and the same with integers."""
    return quantised.home() / "whole", quantised.home() / "small"


@pytest.fixture(scope="module")
def computed() -> Path:
    """The same with its arithmetic in integers, wherever it can be."""
    quantised.computed()
    return quantised.home() / "computed"


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
    assert bundle.size_bytes(pair[1]) < 0.45 * bundle.size_bytes(pair[0])
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


def test_integers_that_a_graph_holds_are_kept_once(pair: tuple[Path, Path]) -> None:
    (whole,), (small,) = (start.read([folder]) for folder in pair)
    kept = load_file(pair[1] / bundle.WEIGHTS)
    table = "encoders.text.0.embedding.weight"
    assert table not in kept
    scales = {n.removesuffix(bundle.SCALE): s for n, s in kept.items() if n.endswith(bundle.SCALE)}
    assert len(scales) > 5
    assert sum(name in kept for name in scales) < len(scales) / 2
    assert small.weights.keys() == whole.weights.keys()
    for name, values in whole.weights.items():
        step = scales.get(name, torch.zeros(1)).reshape(-1, *(1,) * (values.ndim - 1))
        # One and a half steps: half of one from rounding, one where a graph's rounding is another.
        assert ((small.weights[name] - values).abs() <= 1.5 * step + 1e-7).all(), name


def test_integers_are_left_out_only_where_they_are_the_same() -> None:
    whole = torch.randint(-127, 128, (40, 30), generator=torch.manual_seed(0), dtype=torch.int8)
    other = whole.clone()
    other[3, 3] += 2 if whole[3, 3] < 100 else -2
    made = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [40, 30])],
        [numpy_helper.from_array(whole.numpy(), "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    packed = {"other": other, "turned": whole.T.contiguous(), "same": whole}
    left, graphs = packing.share(packed, {"text.onnx": model.SerializeToString()})
    assert left.keys() == {"other", "turned"}
    found = onnx.load_from_string(graphs["text.onnx"]).graph
    assert [tensor.name for tensor in found.initializer] == ["same"]
    session = ort.InferenceSession(graphs["text.onnx"], providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {})[0], whole.numpy())


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


# Arithmetic in integers


def outputs(
    folder: Path, rows: Iterable[Record | Rejection], *, at_once: int = 32
) -> list[Outputs]:
    told = moodal.load(folder).outputs(rows, batch_size=at_once)
    return [one for one in told if isinstance(one, Outputs)]


def dev() -> list[Record | Rejection]:
    return list(manifest.read(quantised.rows().valid))


def test_answers_of_integers_stay_near_those_of_floats(
    pair: tuple[Path, Path], computed: Path
) -> None:
    gaps = [
        np.abs(one.scores[subset] - other.scores[subset]).max()
        for one, other in zip(outputs(pair[0], dev()), outputs(computed, dev()), strict=True)
        for subset in one.scores
    ]
    assert 0 < max(gaps) < 0.05
    assert bundle.load(computed).arithmetic == "int8"
    assert bundle.size_bytes(computed) < 0.6 * bundle.size_bytes(pair[0])


def test_a_batch_of_integers_answers_as_if_alone(computed: Path) -> None:
    """To within what one step of an input's 255 moves: sums before it are taken in another order,
    which may round it the other way."""
    for one, other in zip(
        outputs(computed, dev()), outputs(computed, dev(), at_once=1), strict=True
    ):
        for subset, raw in one.raw.items():
            np.testing.assert_allclose(raw, other.raw[subset], atol=2e-3)


def test_what_is_hidden_cannot_change_an_answer_of_integers(computed: Path) -> None:
    sessions = Sessions(computed, bundle.load(computed))
    fed = calibration.see(computed, quantised.rows().train, rows=6).feeds
    for graph in ("text.onnx", "audio.onnx"):
        for feeds in fed[graph]:
            x, mask = feeds["x"], feeds["mask"]
            more = {
                "x": np.concatenate([x, np.full_like(x, x.max())], 1),
                "mask": np.concatenate([mask, np.zeros_like(mask)], 1),
            }
            whole, padded = (sessions.run(graph, f)[0] for f in (feeds, more))
            np.testing.assert_allclose(padded[:, : whole.shape[1]], whole, atol=2e-3)


def test_the_scores_are_those_of_the_integers(computed: Path) -> None:
    info, task = bundle.load(computed), TASKS[bundle.load(computed).task]
    report = api.evaluate(quantised.rows().valid, model=computed)
    for score in (task.goal, "log_loss"):
        assert info.scores["all"][score] == pytest.approx(report.scores[score], rel=1e-9)
    assert set(info.scores) == {"all", *report.subsets}
    card = bundle.read(computed, info, bundle.CARD).decode("utf-8")
    assert f"| all | {report.scores['n']} | {report.scores[task.goal]:.3f} |" in card


def test_what_was_done_is_told_layer_by_layer(computed: Path) -> None:
    facts = json.loads(json.dumps(quantised.computed(), allow_nan=False))
    assert facts["arithmetic"] == "int8"
    assert {layer["operator"] for layer in facts["layers"]} == {"Conv", "MatMul", "Gemm"}
    assert facts["calibration"]["rows"] == 48
    assert facts["score"]["drop"] == pytest.approx(
        facts["score"]["before"] - facts["score"]["after"]
    )


def test_the_weights_of_both_are_the_same_for_training(
    pair: tuple[Path, Path], computed: Path
) -> None:
    (ours,), (theirs,) = (start.read([folder]) for folder in (pair[1], computed))
    assert ours.weights.keys() == theirs.weights.keys()
    for name, values in ours.weights.items():
        assert torch.equal(values, theirs.weights[name]), name


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (tiny.speech, (*tiny.HEARING, "audio_encoder.kind=tdnn-gru", "audio_encoder.width=32")),
        (tiny.articles, tiny.WRITING),
    ],
    ids=["speech", "summaries"],
)
def test_models_that_answer_with_texts_are_computed_too(
    make: Callable[[Path], Path], settings: tuple[str, ...], tmp_path: Path
) -> None:
    data = make(tmp_path / "data")
    few = (*settings, "train.epochs=2", f"cache={tmp_path / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=tmp_path / "whole", settings=few)
    rows = quantise.Rows(data / "train.csv", data / "dev.csv")
    facts = quantise.compute(
        tmp_path / "whole", tmp_path / "small", rows, max_drop=9.0, mode="int8"
    )
    assert any(layer["arithmetic"] == "int8" for layer in facts["layers"])
    told = list(moodal.load(tmp_path / "small").predict_many(manifest.read(data / "dev.csv")))
    assert all(isinstance(one, Prediction) and one.text is not None for one in told)


@dataclass(frozen=True)
class Scored:
    task: str
    scores: dict[str, float]


def test_a_step_may_lose_what_the_steps_before_it_left(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = bundle.load(pair[0]).task
    goal = TASKS[task].goal
    points = {pair[0]: 0.9, tiny.train_once(): 0.88}
    asked: list[tuple[float, float]] = []

    def choose(*args: Any, compute: str, max_drop: float) -> None:
        asked.append((args[2]({}), max_drop))
        raise ConfigError("nothing is chosen")

    monkeypatch.setattr(quantise.choose, "choose", choose)
    monkeypatch.setattr(
        quantise.Rows, "scored", lambda self, model: Scored(task, {goal: points[model.folder]})
    )
    rows = quantised.rows()
    for folder in points:
        plan = Plan(pair[0], rows.train, rows.valid, tmp_path, max_drop=0.05)
        with pytest.raises(ConfigError, match="nothing is chosen"):
            quantise.step(plan, folder, tmp_path / "out")
    assert asked == [(0.0, 0.05), (pytest.approx(0.02), 0.05)]


def test_nothing_is_written_where_rows_are_wrong(pair: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "rows.csv"
    bad.write_text("id,text\n1,good\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds image"):
        quantise.compute(pair[0], tmp_path / "out", quantise.Rows(bad, quantised.rows().valid))
    with pytest.raises(ConfigError, match="8-bit integers already"):
        quantise.compute(pair[1], tmp_path / "out", quantised.rows())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
