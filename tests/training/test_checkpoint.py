"""A run's state on disk: exact, whole at every moment, and of this run alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from moodal.config import Train
from moodal.errors import CapacityError, ConfigError
from moodal.training import checkpoint, optimise

IDENTITY = {"settings": {"epochs": 3, "rates": [0.1, 0.2]}, "data": {"train": "ab"}}


def save(folder: Path, value: float, *, epoch: int = 0, step: int = 1) -> None:
    state = {"epoch": epoch, "step": step, "identity": IDENTITY, "loss_sum": 1 / 3}
    checkpoint.save(folder, {"network.a": torch.full((3,), value)}, state)


def value(folder: Path) -> float:
    return float(checkpoint.load(folder, IDENTITY)[0]["network.a"][0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    shared = torch.randn(4, 3)
    tensors = {
        "network.weight": shared,
        "best.weight": shared,  # one memory, as tied weights have
        "turned": shared.t(),
        "count": torch.tensor(7),
        "half": torch.randn(2).bfloat16(),
        "generator": torch.get_rng_state(),
    }
    state = {"epoch": 2, "step": 5, "identity": IDENTITY, "loss_sum": 0.1 + 0.2, "history": [{}]}
    checkpoint.save(tmp_path / "run", tensors, state)
    loaded, values = checkpoint.load(tmp_path / "run", IDENTITY)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert all(loaded[name].dtype == tensors[name].dtype for name in tensors)
    assert values == state | {"tensors": "state-2-5.safetensors"}


def toy() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, x: torch.Tensor) -> None:
    for _ in range(3):
        optimiser.zero_grad()
        network(x).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("name", optimise.OPTIMISERS)
def test_a_restored_optimiser_goes_on_exactly_as_the_first_would_have(
    name: str, tmp_path: Path
) -> None:
    settings = Train.model_validate({"optimiser": name, "learning_rate": 0.1})
    network, x = toy()
    optimiser = optimise.build(network, settings)
    steps(network, optimiser, x)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= checkpoint.flatten_optimiser(optimiser)
    checkpoint.save(tmp_path, tensors, {"epoch": 0, "step": 3, "identity": IDENTITY})

    loaded, _ = checkpoint.load(tmp_path, IDENTITY)
    other, _ = toy()
    other.load_state_dict({k[8:]: v for k, v in loaded.items() if k.startswith("network.")})
    restored = optimise.build(other, settings)
    checkpoint.restore_optimiser(restored, loaded)
    steps(network, optimiser, x)
    steps(other, restored, x)
    for mine, its in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_new_state_replaces_the_old_and_leaves_no_other_file(tmp_path: Path) -> None:
    save(tmp_path, 1.0, step=1)
    save(tmp_path, 2.0, step=2)
    assert value(tmp_path) == 2.0
    assert names(tmp_path) == ["state-0-2.safetensors", "state.json"]


def test_a_kill_between_the_two_writes_leaves_the_old_state_valid(tmp_path: Path) -> None:
    save(tmp_path / "run", 1.0, step=1)
    save(tmp_path / "later", 2.0, step=2)
    tensors = (tmp_path / "later" / "state-0-2.safetensors").read_bytes()
    (tmp_path / "run" / "state-0-2.safetensors").write_bytes(tensors)  # and state.json never came
    (tmp_path / "run" / ".state.json").write_text('{"epoch": 0, "st', encoding="utf-8")
    assert value(tmp_path / "run") == 1.0
    save(tmp_path / "run", 3.0, step=3)
    assert value(tmp_path / "run") == 3.0
    assert names(tmp_path / "run") == ["state-0-3.safetensors", "state.json"]


@pytest.mark.parametrize("file", ["state-0-2.safetensors", "state.json"])
def test_a_full_disk_is_said_and_the_old_state_stays(file: str, tmp_path: Path) -> None:
    save(tmp_path, 1.0, step=1)
    (tmp_path / f".{file}").symlink_to("/dev/full")  # whatever is written there finds no space
    with pytest.raises(CapacityError, match="No space left on device"):
        save(tmp_path, 2.0, step=2)
    assert value(tmp_path) == 1.0
    assert not (tmp_path / f".{file}").is_symlink()


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        (IDENTITY | {"settings": {"epochs": 4, "rates": [0.1, 0.2]}}, "other settings"),
        (IDENTITY | {"data": {"train": "ac"}}, "other data"),
        ({"settings": {}, "data": {}}, "other data, settings"),
    ],
)
def test_the_state_of_another_run_is_refused(
    identity: dict[str, Any], named: str, tmp_path: Path
) -> None:
    save(tmp_path, 1.0)
    with pytest.raises(ConfigError, match=named):
        checkpoint.load(tmp_path, identity)


def test_no_state_and_a_damaged_one_are_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run to go on with; leave out --resume"):
        checkpoint.load(tmp_path / "absent", IDENTITY)
    save(tmp_path, 1.0)
    whole = (tmp_path / "state-0-1.safetensors").read_bytes()
    for file, damage in (
        ("state-0-1.safetensors", whole[:-2]),
        ("state-0-1.safetensors", b""),
        ("state.json", b"[]"),
        ("state.json", b"{}"),
        ("state.json", b'{"identity": {'),
    ):
        (tmp_path / file).write_bytes(damage)
        with pytest.raises(ConfigError, match=r"is damaged .*leave out --resume"):
            checkpoint.load(tmp_path, IDENTITY)


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    assert json.loads((tmp_path / "state.json").read_bytes())["loss_sum"] == 1 / 3
