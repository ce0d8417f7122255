"""A run's state on disk, so that a run killed at any moment goes on as if nothing had been.

OUT.training/state-N.safetensors   every tensor: weights, best weights, optimiser, torch's generator
OUT.training/state.json            the rest, and the name of the file above; written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as tensors_bytes
from torch import Tensor

from moodal.bundle import writing
from moodal.errors import ConfigError

STATE = "state.json"


def folder_of(out: Path) -> Path:
    return out.with_name(out.name + ".training")


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write both files; the old pair stays valid until the new one is whole.

    Raises: CapacityError when the disk is full.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"state-{state['epoch']}-{state['step']}.safetensors"
        _replace(folder / name, lambda path: path.write_bytes(tensors_bytes(_own(tensors))))
        text = json.dumps({**state, "tensors": name})
        _replace(folder / STATE, lambda path: path.write_text(text, encoding="utf-8"))
        for old in folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()


def load(folder: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The last state. Raises: ConfigError when there is none, it is damaged, or of another run.

    identity: what must be the same: the settings and the data.
    """
    path = folder / STATE
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no run to go on with; leave out --resume")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        made_with = state["identity"]
        tensors = load_file(folder / state["tensors"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: the state of the run is damaged ({error}); "
            "leave out --resume to begin again"
        ) from error
    if different := sorted(k for k in identity if made_with.get(k) != identity[k]):
        raise ConfigError(
            f"{folder}: was made with other {', '.join(different)}; use the same to go on, "
            "or leave out --resume to begin again"
        )
    return tensors, state


def flatten_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments and counts, by parameter number and name."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    whole = optimiser.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            moments.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory."""
    return {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name("." + path.name)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
