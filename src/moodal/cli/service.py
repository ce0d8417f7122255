"""A service's commands: serve, keys, feedback, retrain, promote, rollback, monitor."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from moodal import extras
from moodal.cli.options import PATH, columns_option, json_option, model_option, pairs_of
from moodal.cli.show import json_text, show


def serving(module: str) -> Any:
    """A module that needs the extra `serve`. Raises: CapacityError, when it is not installed."""
    return extras.load(module, "serve")


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


@click.group()
def keys() -> None:
    """Who may ask a service: a file of hashed API keys."""


@keys.command("add")
@click.argument("file", type=PATH)
@click.argument("name")
@json_option
def add_key(file: Path, name: str, as_json: bool) -> None:
    """Make a key for NAME and print it, this once; FILE keeps its hash."""
    key = serving("moodal.serve.keys").add(file, name)
    if not as_json:
        click.echo("send it as 'Authorization: Bearer KEY'; it is not shown again:", err=True)
    click.echo(json_text({"name": name, "key": key}) if as_json else key)


@keys.command("list")
@click.argument("file", type=PATH)
@json_option
def list_keys(file: Path, as_json: bool) -> None:
    """Names that have a key."""
    names = list(serving("moodal.serve.keys").read(file))
    click.echo(json_text(names) if as_json else "\n".join(names))


@keys.command("remove")
@click.argument("file", type=PATH)
@click.argument("name")
@json_option
def remove_key(file: Path, name: str, as_json: bool) -> None:
    """Refuse NAME's key from now on; a service that runs notices within a second."""
    serving("moodal.serve.keys").remove(file, name)
    show({"removed": name}, as_json=as_json)


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


store_option = click.option(
    "--store", required=True, metavar="URL", help="Journal, as `moodal serve` writes it."
)
inputs_option = click.option(
    "--inputs", type=PATH, metavar="DIR", help="Where `moodal serve --keep-inputs` kept inputs."
)


@click.group()
def feedback() -> None:
    """What people said of answers."""


@feedback.command()
@store_option
@click.option("--out", required=True, type=PATH, help="Manifest to write; media lie beside it.")
@inputs_option
@click.option("--reviewed", is_flag=True, help="Only what a reviewer has judged.")
@json_option
def export(store: str, out: Path, inputs: Path | None, reviewed: bool, as_json: bool) -> None:
    """Write corrections as rows to learn from."""
    from moodal.monitor import corrections

    kept = corrections.kept_in(inputs)
    with serving("moodal.store.journal").open(store, create=False) as journal:
        done = corrections.export(journal, out, inputs=kept, reviewed=reviewed)
    click.echo(json_text(done.to_dict()) if as_json else done.sentence())


@click.command()
@store_option
@click.option("--from", "start", required=True, type=PATH, metavar="MODEL", help="To go on from.")
@click.option("--train", "file", required=True, type=PATH, help="Manifest that it learned from.")
@click.option("--out", required=True, type=PATH, help="Folder of the new model.")
@click.option("--valid", type=PATH, help="Manifest to choose the best epoch by.")
@inputs_option
@click.option("--unreviewed", is_flag=True, help="Also what no reviewer has seen.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. train.epochs=5")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@json_option
def retrain(store: str, out: Path, unreviewed: bool, as_json: bool, **options: Any) -> None:
    """Train a model further, on its old rows and the reviewed corrections."""
    from moodal import api

    with serving("moodal.store.journal").open(store, create=False) as journal:
        model = api.retrain(journal=journal, out=out, reviewed=not unreviewed, **options)
    show({"model": str(out), **model.info.data}, as_json=as_json)


@click.command()
@click.argument("new", type=PATH)
@click.option("--over", required=True, type=PATH, metavar="DIR", help="The model that is used.")
@click.option("--test", required=True, type=PATH, help="Labelled rows that neither has seen.")
@click.option("--store", metavar="URL", help="Journal that is told.")
@click.option(
    "--sure",
    default=0.9,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the resamples in which it must be better.",
)
@columns_option
@json_option
@click.pass_context
def promote(
    context: click.Context,
    new: Path,
    over: Path,
    test: Path,
    store: str | None,
    sure: float,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Put the model NEW in the place of another, if it is better and nowhere surely worse."""
    from moodal import api
    from moodal.monitor import gate

    with journal_of(store) as journal:
        named = pairs_of(renames)
        done = api.promote(new, over=over, test=test, journal=journal, sure=sure, renames=named)
    click.echo(json_text(done.to_dict()) if as_json else gate.table(done))
    if done.passed and not as_json:
        click.echo(f"promoted: {over} holds {new} now; moodal rollback {over} takes it back")
    context.exit(0 if done.passed else 1)


@click.command()
@click.argument("folder", type=PATH)
@click.option("--store", metavar="URL", help="Journal that is told.")
@json_option
def rollback(folder: Path, store: str | None, as_json: bool) -> None:
    """Put the model that stood at FOLDER before in its place again; twice goes two back."""
    from moodal import bundle
    from moodal.monitor import promotion

    with journal_of(store) as journal:
        away, info = promotion.rollback(folder, journal=journal)
    done = {"model": str(folder), "version": bundle.version(info), "taken_away": away}
    show(done, as_json=as_json)


def journal_of(store: str | None) -> AbstractContextManager[Any]:
    return nullcontext() if store is None else serving("moodal.store.journal").open(store)


COMMANDS: tuple[click.Command, ...] = (serve, keys, feedback, retrain, promote, rollback, monitor)
"""In the order of the help text."""
