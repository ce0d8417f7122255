"""A model's commands: train, evaluate, predict, info."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moodal.cli.options import (
    PATH,
    as_settings,
    columns_option,
    json_option,
    model_option,
    pairs_of,
    run_options,
)
from moodal.cli.show import answer_text, flat, json_text


@click.command()
@click.argument("file", type=PATH)
@click.option(
    "--valid",
    type=PATH,
    help="Manifest to choose the best epoch by; without it, a tenth of the rows is held out.",
)
@click.option("--out", required=True, type=PATH, help="Folder of the model.")
@run_options
@click.option(
    "--from",
    "start",
    multiple=True,
    type=PATH,
    metavar="MODEL",
    help="Start from a trained model, base being the packaged one; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@columns_option
@json_option
def train(
    file: Path,
    valid: Path | None,
    out: Path,
    task: str | None,
    run: Path | None,
    settings: tuple[str, ...],
    label: str | None,
    target: str | None,
    group: str | None,
    start: tuple[Path, ...],
    resume: bool,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a model on FILE and save it as a folder."""
    named = as_settings(renames, task=task, label=label, target=target, group=group)
    from moodal.api import train as run_train

    model = run_train(
        file,
        valid=valid,
        out=out,
        run=run,
        settings=(*named, *settings),
        start=start,
        resume=resume,
    )
    click.echo(json_text(_summary(model.folder)) if as_json else _card(model.folder))


@click.command()
@click.argument("file", type=PATH, required=False)
@model_option
@click.option("--checklist", is_flag=True, help="Ask the built-in cases of behaviour; no FILE.")
@click.option("--out", type=PATH, help="Folder for report.html and .json, or checklist.json.")
@click.option("--among", metavar="LABEL,LABEL", help="Only these labels compete.")
@columns_option
@json_option
def evaluate(
    file: Path | None,
    model: Path | None,
    checklist: bool,
    out: Path | None,
    among: str | None,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score a model on a labelled FILE (every subset, language and group), or by --checklist."""
    if checklist == (file is not None):
        raise click.UsageError("give FILE, or --checklist")
    if checklist and (among or renames):
        raise click.UsageError("--among and --column go with FILE; the checklist has its own cases")
    from moodal import api
    from moodal.evaluation import checklist as behaviour
    from moodal.evaluation.report import table

    if file is None:
        found = api.checklist(model, out=out)
        click.echo(json_text(found.to_dict()) if as_json else behaviour.table(found))
        return
    labels = [label.strip() for label in among.split(",")] if among else None
    report = api.evaluate(file, model=model, out=out, among=labels, renames=pairs_of(renames))
    click.echo(json_text(report.to_dict()) if as_json else table(report))


@click.command()
@click.argument("file", type=PATH, required=False)
@model_option
@click.option("--text", help="One text.")
@click.option("--image", type=PATH, help="One picture.")
@click.option("--audio", type=PATH, help="One recording.")
@click.option("--out", type=PATH, help="File of answers, one JSON object a line.")
@click.option("--explain", is_flag=True, help="Say what moved each answer of FILE: words, regions.")
@click.option(
    "--transcriber",
    type=PATH,
    metavar="MODEL",
    help="Model that writes speech down: its words are read where a record has none.",
)
@click.option(
    "--heatmap", type=PATH, help="PNG or JPEG to write: --image, with what mattered laid over it."
)
@columns_option
@json_option
def predict(
    file: Path | None,
    model: Path | None,
    text: str | None,
    image: Path | None,
    audio: Path | None,
    out: Path | None,
    explain: bool,
    heatmap: Path | None,
    transcriber: Path | None,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Answer one record (--text, --image, --audio) or every row of FILE (- = standard input)."""
    one = text is not None or image is not None or audio is not None
    if one == (file is not None):
        raise click.UsageError("give FILE, or one record with --text, --image, --audio")
    if one and (out or renames):
        raise click.UsageError("--out and --column go with FILE; one record's answer is printed")
    if heatmap and not image:
        raise click.UsageError("--heatmap shows what mattered in a picture; give one with --image")
    from moodal import api

    if file is None:
        asked = api.load(model, transcriber=transcriber)
        answer = asked.predict(text=text, image=image, audio=audio, explain=True)
        if heatmap and image:
            api.heatmap(image, answer, out=heatmap)
        click.echo(json_text(answer.to_dict()) if as_json else answer_text(answer.to_dict()))
        return
    named = pairs_of(renames)
    loaded = api.load(model, transcriber=transcriber)
    counts = api.predict_file(file, model=loaded, out=out, explain=explain, renames=named)
    click.echo(json_text(counts) if as_json else flat(counts), err=out is None)


@click.command()
@click.argument("folder", type=PATH)
@json_option
def info(folder: Path, as_json: bool) -> None:
    """What a model is: task, labels, modalities, size, data, scores. Every file is checked."""
    click.echo(json_text(_summary(folder)) if as_json else _card(folder))


def _summary(folder: Path) -> dict[str, Any]:
    from moodal import bundle
    from moodal.tasks import TASKS

    folder = bundle.find(folder)
    checked = bundle.verify(folder)
    info = {**checked.model_dump(mode="json"), "modalities": checked.modalities}
    kept = (
        "name",
        "task",
        "labels",
        "modalities",
        "kinds",
        "parameters",
        "created",
        "data",
        "scores",
        "threshold",
    )
    summary = {key: info[key] for key in kept}
    if TASKS[checked.task].head != "summary":
        summary["labels"] = []  # thousands of symbols, which say nothing to anyone
    return {"model": str(folder), **summary, "size_bytes": bundle.size_bytes(folder)}


def _card(folder: Path) -> str:
    from moodal import bundle

    folder = bundle.find(folder)
    info = bundle.verify(folder)
    size = bundle.size_bytes(folder) / 1e6
    card = bundle.read(folder, info, bundle.CARD).decode("utf-8")
    return f"{card}\n{folder}: {size:.1f} MB, every file is as it was saved."
