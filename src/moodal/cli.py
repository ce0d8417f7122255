"""The command line: each command parses, calls one library function and prints."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from moodal.errors import MoodalError
from moodal.types import TaskName

Command = TypeVar("Command", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


def main() -> None:
    """Exit code 0 done, 1 the input is wrong, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        # To a file or a program, UTF-8 whatever the machine is set to; a terminal knows its own.
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        cli()
    except MoodalError as error:
        click.echo(f"moodal: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moodal")
def cli() -> None:
    """Texts, images and recordings in, a sentiment model that you own out."""


@cli.group()
def data() -> None:
    """Make, check and split data sets."""


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def _columns_option(command: Command) -> Command:
    return click.option(
        "--column",
        "renames",
        multiple=True,
        metavar="OURS=THEIRS",
        help="Name of a column in the file, e.g. text=review; may be repeated.",
    )(command)


def _model_option(command: Command) -> Command:
    return click.option(
        "--model",
        type=_PATH,
        help="Folder of the model; without it, the one that comes with the package.",
    )(command)


@data.command()
@click.argument("folder", type=_PATH)
@click.option(
    "--rows", default=600, show_default=True, type=click.IntRange(30), help="Rows in all."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of what is drawn."
)
@_json_option
def toy(folder: Path, rows: int, seed: int, as_json: bool) -> None:
    """Make a tiny learnable set: text (zh, en), drawings and speech-like sound."""
    from moodal.data.toy import toy as make

    _print(make(folder, rows=rows, seed=seed), as_json=as_json)


@data.command()
@click.argument("file", type=_PATH)
@click.option(
    "--against", multiple=True, type=_PATH, help="Another part, to look for leaks; may be repeated."
)
@click.option("--fix", type=_PATH, help="Write the manifest without the rejected rows.")
@_columns_option
@_json_option
def check(
    file: Path, against: tuple[Path, ...], fix: Path | None, renames: tuple[str, ...], as_json: bool
) -> None:
    """Look for what would spoil a model: corrupt media, duplicates, leaks, imbalance, outliers."""
    from moodal.api import check as run_check

    report = run_check(file, against=against, fix=fix, columns=_columns(renames))
    click.echo(_json(report.to_dict()) if as_json else report.table())


@data.command()
@click.argument("file", type=_PATH)
@click.option("--out", required=True, type=_PATH, help="Folder for train, dev and test.")
@click.option("--group", metavar="COLUMN", help="Rows of one group stay together.")
@click.option("--ratios", default="0.8,0.1,0.1", show_default=True, help="Of train, dev and test.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the shuffle."
)
@_columns_option
@_json_option
def split(
    file: Path,
    out: Path,
    group: str | None,
    ratios: str,
    seed: int,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Split a manifest into train, dev and test, by group or stratified by label."""
    from moodal.data.split import split as run_split

    shares = _ratios(ratios)
    columns = _columns(renames)
    done = run_split(file, out, columns=columns, group=group, ratios=shares, seed=seed)
    _print(done, as_json=as_json)


@cli.command()
@click.argument("file", type=_PATH)
@click.option(
    "--valid",
    type=_PATH,
    help="Manifest to choose the best epoch by; without it, a tenth of the rows is held out.",
)
@click.option("--out", required=True, type=_PATH, help="Folder of the model.")
@click.option(
    "--task", type=click.Choice(get_args(TaskName)), help="What is answered; the setting task."
)
@click.option("--config", "config_file", type=_PATH, help="YAML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. train.epochs=5")
@click.option("--label", metavar="COLUMN", help="Column that holds the answer.")
@click.option("--target", metavar="COLUMN", help="The same, where the answer is a text.")
@click.option("--group", metavar="COLUMN", help="Column of groups, e.g. speakers.")
@click.option(
    "--from",
    "start",
    multiple=True,
    type=_PATH,
    metavar="MODEL",
    help="Start from a trained model, base being the packaged one; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@_columns_option
@_json_option
def train(
    file: Path,
    valid: Path | None,
    out: Path,
    task: str | None,
    config_file: Path | None,
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
    if label and target:
        raise click.UsageError("--label and --target name the same column; give one of them")
    from moodal.api import train as run_train

    named = {"label": label or target, "group": group}
    renamed = _pairs(renames) | {ours: theirs for ours, theirs in named.items() if theirs}
    # A name is text: "no" and "2024" would be something else in YAML, but not as JSON writes them.
    columns = (f"columns.{ours}={json.dumps(theirs)}" for ours, theirs in renamed.items())
    settings = (*([f"task={task}"] if task else []), *columns, *settings)
    model = run_train(
        file,
        valid=valid,
        out=out,
        run=config_file,
        settings=settings,
        start=start,
        resume=resume,
    )
    click.echo(_json(_summary(model.folder)) if as_json else _card(model.folder))


@cli.command()
@click.argument("file", type=_PATH, required=False)
@_model_option
@click.option("--checklist", is_flag=True, help="Ask the built-in cases of behaviour; no FILE.")
@click.option("--out", type=_PATH, help="Folder for report.html and .json, or checklist.json.")
@click.option("--among", metavar="LABEL,LABEL", help="Only these labels compete.")
@_columns_option
@_json_option
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
        click.echo(_json(found.to_dict()) if as_json else behaviour.table(found))
        return
    labels = [label.strip() for label in among.split(",")] if among else None
    report = api.evaluate(file, model=model, out=out, among=labels, renames=_pairs(renames))
    click.echo(_json(report.to_dict()) if as_json else table(report))


@cli.command()
@click.argument("file", type=_PATH, required=False)
@_model_option
@click.option("--text", help="One text.")
@click.option("--image", type=_PATH, help="One picture.")
@click.option("--audio", type=_PATH, help="One recording.")
@click.option("--out", type=_PATH, help="File of answers, one JSON object a line.")
@click.option("--explain", is_flag=True, help="Say what moved each answer of FILE: words, regions.")
@click.option(
    "--transcriber",
    type=_PATH,
    metavar="MODEL",
    help="Model that writes speech down: its words are read where a record has none.",
)
@click.option(
    "--heatmap", type=_PATH, help="PNG or JPEG to write: --image, with what mattered laid over it."
)
@_columns_option
@_json_option
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
        click.echo(_json(answer.to_dict()) if as_json else _answer(answer.to_dict()))
        return
    named = _pairs(renames)
    loaded = api.load(model, transcriber=transcriber)
    counts = api.predict_file(file, model=loaded, out=out, explain=explain, renames=named)
    click.echo(_json(counts) if as_json else _flat(counts), err=out is None)


@cli.command()
@click.argument("folder", type=_PATH)
@_json_option
def info(folder: Path, as_json: bool) -> None:
    """What a model is: task, labels, modalities, size, data, scores. Every file is checked."""
    click.echo(_json(_summary(folder)) if as_json else _card(folder))


def _pairs(renames: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for rename in renames:
        ours, equals, theirs = rename.partition("=")
        if not equals:
            raise click.UsageError(f"--column {rename!r}: write it as text=review")
        pairs[ours] = theirs
    return pairs


def _columns(renames: Iterable[str]) -> Any:
    from moodal import config

    return config.parse({"columns": _pairs(renames)}).columns


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--ratios {text!r}: three numbers such as 0.8,0.1,0.1") from None


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


_REASONS = {
    "unsure": "abstains: not sure enough / 弃权：把握不足",
    "unfamiliar": "abstains: most of these words are unknown to the model / 弃权：多数词语未学过",
    "empty": "abstains: nothing was said / 弃权：没有内容",
}


def _answer(answer: Mapping[str, Any]) -> str:
    said = answer["label"] if answer["text"] is None else answer["text"]
    if said is None:
        lines = [f"{answer['value']:.4g}"]
    else:
        why = f"  ({_REASONS[answer['reason']]})" if answer["reason"] else ""
        lines = [f"{said}  {answer['confidence']:.3f}{why}"]
        lines += [f"  {label}  {p:.3f}" for label, p in answer["probabilities"].items()]
    shares = (f"{m} {share:+.3f}" for m, share in answer["contributions"].items())
    lines.append("from  " + ", ".join(shares))
    words = sorted(answer["words"], key=lambda w: -abs(w[1]))[:8]
    if words:
        lines.append("words " + ", ".join(f"{word} {weight:+.3f}" for word, weight in words))
    timed = [t for t in answer["tokens"] if t["start"] is not None]
    lines += [f"  {t['start']:6.2f} s  {t['text']}  {t['confidence']:.3f}" for t in timed]
    cells = [(w, r, c) for r, row in enumerate(answer["regions"], 1) for c, w in enumerate(row, 1)]
    if cells:
        weight, row, column = max(cells)
        grid = f"{len(answer['regions'])} x {len(answer['regions'][0])}"
        lines.append(f"region row {row}, column {column} of {grid} {weight:+.3f}  (--heatmap FILE)")
    return "\n".join(lines)


def _print(values: Mapping[str, Any], *, as_json: bool) -> None:
    click.echo(_json(values) if as_json else _flat(values))


def _flat(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items())


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, default=str)


if __name__ == "__main__":
    main()
