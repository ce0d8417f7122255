"""moodal data: make, check and split data sets."""

from __future__ import annotations

from pathlib import Path

import click

from moodal.cli.options import PATH, columns_of, columns_option, json_option
from moodal.cli.show import json_text, show


@click.group()
def data() -> None:
    """Make, check and split data sets."""


@data.command()
@click.argument("folder", type=PATH)
@click.option(
    "--rows", default=600, show_default=True, type=click.IntRange(30), help="Rows in all."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of what is drawn."
)
@json_option
def toy(folder: Path, rows: int, seed: int, as_json: bool) -> None:
    """Make a tiny learnable set: text (zh, en), drawings and speech-like sound."""
    from moodal.data.toy import toy as make

    show(make(folder, rows=rows, seed=seed), as_json=as_json)


@data.command()
@click.argument("file", type=PATH)
@click.option(
    "--against", multiple=True, type=PATH, help="Another part, to look for leaks; may be repeated."
)
@click.option("--fix", type=PATH, help="Write the manifest without the rejected rows.")
@columns_option
@json_option
def check(
    file: Path, against: tuple[Path, ...], fix: Path | None, renames: tuple[str, ...], as_json: bool
) -> None:
    """Look for what would spoil a model: corrupt media, duplicates, leaks, imbalance, outliers."""
    from moodal.api import check as run_check

    report = run_check(file, against=against, fix=fix, columns=columns_of(renames))
    click.echo(json_text(report.to_dict()) if as_json else report.table())


@data.command()
@click.argument("file", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder for train, dev and test.")
@click.option("--group", metavar="COLUMN", help="Rows of one group stay together.")
@click.option("--ratios", default="0.8,0.1,0.1", show_default=True, help="Of train, dev and test.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the shuffle."
)
@columns_option
@json_option
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
    columns = columns_of(renames)
    done = run_split(file, out, columns=columns, group=group, ratios=shares, seed=seed)
    show(done, as_json=as_json)


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--ratios {text!r}: three numbers such as 0.8,0.1,0.1") from None
