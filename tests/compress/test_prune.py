"""Pruned in rounds: smaller, loadable, within what may be lost; layers that cost least go first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_distil import planned
from torch import nn

from moodal import api, bundle
from moodal.compress import network, prune
from moodal.compress.judge import Measured
from moodal.compress.plan import Plan
from moodal.errors import ConfigError
from moodal.runtime.predict import Model, Outputs

MADE = {"classify": tiny.train_once, "transcribe": tiny.hear_once, "summarise": tiny.write_once}
ROUNDS = ("prune.rounds=2", "prune.epochs=1")


def pruned(plan: Plan, folder: Path) -> dict[str, Any]:
    facts = prune.step(plan, folder, plan.folder(1))
    bundle.verify(plan.folder(1))
    return facts


@pytest.mark.parametrize("task", MADE)
def test_rounds_take_channels_away(task: str, tmp_path: Path) -> None:
    folder = MADE[task]()
    plan = planned(folder, tmp_path / "out", *ROUNDS, max_drop=9.0, steps=("prune",))
    facts = pruned(plan, folder)
    assert facts["kept"] == len(facts["rounds"]) == 2
    before, after = bundle.load(folder).parameters, bundle.load(plan.folder(1)).parameters
    first = facts["rounds"][0]["measured"]["parameters"]
    assert before > first > after
    assert not list(tmp_path.glob("**/*.rounds"))
    assert network.load(plan.folder(1)).info.parameters == after


def test_the_round_that_loses_too_much_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_once()
    drops = iter([0.0, 0.5])

    def judged(plan: Plan, out: Path) -> Measured:
        n = bundle.load(out).parameters
        return Measured(1.0, 1.0, 1.0, n, 16, 1.0, 1.0, next(drops), None)

    monkeypatch.setattr(prune, "judge", judged)
    plan = planned(folder, tmp_path / "out", "prune.epochs=1", steps=("prune",))
    facts = pruned(plan, folder)
    assert (facts["kept"], len(facts["rounds"])) == (1, 2)
    kept = bundle.load(plan.folder(1)).parameters
    assert kept == facts["rounds"][0]["measured"]["parameters"]


def test_rounds_end_when_the_target_is_met(tmp_path: Path) -> None:
    folder = tiny.write_once()
    size = bundle.size_bytes(folder) / 1e6
    plan = planned(folder, tmp_path / "out", "prune.epochs=1", max_drop=9.0, steps=("prune",),
                   target_mb=size)  # fmt: skip
    assert len(pruned(plan, folder)["rounds"]) == 1


def test_the_layer_that_costs_least_goes_first() -> None:
    """Of four residual layers one does nothing: it is the one."""
    torch.manual_seed(0)

    class Adds(nn.Module):
        def __init__(self, size: float) -> None:
            super().__init__()
            self.size = size

        def forward(self, x: float) -> float:
            return x + self.size

    stack = nn.ModuleList(Adds(size) for size in (0.5, 1.0, 0.0, 2.0))
    cost = {"stack": stack}

    def loss() -> float:
        x = 0.0
        for layer in stack:
            x = layer(x)
        return 10.0 - x

    found = prune.drop(cost, loss, 0.05)
    assert found == {"stack.2": pytest.approx(0.0)}
    assert [layer.size for layer in stack] == [0.5, 1.0, 2.0]
    assert prune.drop(cost, loss, 0.05) == {}
    assert prune.drop(cost, loss, 0.0) == {}
    assert len(stack) == 3


def test_a_network_without_layers_is_read_again(tmp_path: Path) -> None:
    """Every residual layer gone: what is left is a bundle like any other."""
    folder = tiny.hear_once()
    given = ("prune.rounds=4", "prune.epochs=1", "prune.layers=1e9", "prune.share=0.01")
    plan = planned(folder, tmp_path / "out", *given, max_drop=9.0, steps=("prune",))
    facts = pruned(plan, folder)
    gone = [layer for made in facts["rounds"] for layer in made["layers"]]
    assert len(gone) == 3
    assert {len(s) for s in stacks_of(plan.folder(1))} <= {0}


def stacks_of(folder: Path) -> list[Any]:
    layers = [m for n, m in network.load(folder).network.named_modules() if n.endswith(".rest")]
    assert layers
    return layers


def test_single_weights_become_0_and_stay_so(tmp_path: Path) -> None:
    folder = tiny.write_once()
    plan = planned(folder, tmp_path / "out", "prune.sparsity=0.9", "prune.epochs=2",
                   steps=("prune-weights",))  # fmt: skip
    facts = prune.weights_step(plan, folder, plan.folder(1))
    found = dict(network.load(plan.folder(1)).network.named_parameters())
    assert facts["layers"]
    for name in facts["layers"]:
        assert float((found[name] == 0).float().mean()) == pytest.approx(0.9, abs=0.01)
    before, after = facts["packed"]
    assert after < 0.5 * before
    sizes = [(f / "text.onnx").stat().st_size for f in (folder, plan.folder(1))]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    assert "nothing is faster" in facts["note"]


def test_training_goes_on_from_a_pruned_model(tmp_path: Path) -> None:
    """It is as narrow as its parent, and answers as it did before it learned."""
    folder = tiny.train_once()
    plan = planned(folder, tmp_path / "out", *ROUNDS, max_drop=9.0, steps=("prune",))
    pruned(plan, folder)
    data = folder.parent / "data"
    still = ("train.epochs=1", "train.learning_rate=1e-12", "train.l2=0",
             f"cache={folder.parent / 'cache'}")  # fmt: skip
    child = api.train(data / "train.csv", valid=data / "dev.csv", out=tmp_path / "child",
                      start=[plan.folder(1)], settings=still)  # fmt: skip
    parent = Model(plan.folder(1))
    assert child.info.parameters == parent.info.parameters
    record = [{"text": "it was superb"}]
    found, expected = (next(m.outputs(record)) for m in (child, parent))
    assert isinstance(found, Outputs)
    assert isinstance(expected, Outputs)
    np.testing.assert_allclose(found.raw[("text",)], expected.raw[("text",)], atol=1e-4)


def test_other_widths_than_the_pruned_models_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_once()
    plan = planned(folder, tmp_path / "out", "prune.rounds=1", "prune.epochs=1", max_drop=9.0,
                   steps=("prune",))  # fmt: skip
    pruned(plan, folder)
    data = folder.parent / "data"
    with pytest.raises(ConfigError, match="leave these settings out"):
        api.train(
            data / "train.csv",
            valid=data / "dev.csv",
            out=tmp_path / "child",
            start=[plan.folder(1)],
            settings=("task=summarise", "text_encoder.width=16"),
        )
