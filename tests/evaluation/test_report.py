"""The report: whole, self-contained, escaped, and honest about what it cannot show."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from moodal.errors import CapacityError, DataError
from moodal.evaluation import report as reports
from moodal.evaluation.result import Report
from moodal.evaluation.score import evaluate
from moodal.preprocess import audio
from moodal.types import Record, Rejection

BAD, GOOD = "0.8 0.1 0.1", "0.1 0.1 0.8"
HISTORY = [{"epoch": 1, "train_loss": 1.0, "score": 0.4}, {"epoch": 2, "train_loss": 0.5}]
VOID = {"meta", "input", "img", "br"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest and collects them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.unclosed: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.unclosed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def sources(self, tag: str) -> list[str]:
        return [attributes["src"] or "" for name, attributes in self.tags if name == tag]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (900, 300), "red").save(file, "PNG")
    return file.getvalue()


def wrong(**more: Any) -> Record:
    return Record(more.pop("id", f"{BAD}/{BAD}/{BAD}"), target="good", **more)


def page_of(report: Report, out: Path) -> Page:
    return Page(reports.write(report, out, history=HISTORY).read_text(encoding="utf-8"))


def test_the_page_is_one_file_that_fetches_and_runs_nothing(labelled: Any, tmp_path: Path) -> None:
    rows = [wrong(text="http://a.b/c", image=picture(), group="ann"), wrong(text="也不好")]
    page = page_of(evaluate(labelled, rows, bootstrap=5), tmp_path / "out")
    assert "script" not in {tag for tag, _ in page.tags}
    assert "link" not in {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in {"src", "href", "xlink:href"}:
                assert value is not None
                assert value.startswith(("data:", "#")), (tag, name, value)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(tag == "svg" for tag, _ in page.tags) == 4


def test_what_stands_in_the_data_is_escaped(labelled: Any, tmp_path: Path) -> None:
    nasty = "<script>alert('x')</script>"
    rows = [
        wrong(text=nasty, group=nasty, lang=nasty, source=nasty),
        wrong(text="b", group="b", source="b"),
        Rejection("2", nasty, nasty, nasty),
    ]
    report = evaluate(labelled, rows, bootstrap=0, name=nasty)
    page = page_of(report, tmp_path / "out")
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(nasty) >= 8


def test_labels_are_escaped_in_the_figures_too(labelled: Any, tmp_path: Path) -> None:
    labels = ("<b>", "a & $b$", "好")
    info = type(labelled.info)("m", labelled.info.task, labels, ("text",))
    rows = [Record(BAD, text="x", target=label) for label in labels]
    page = page_of(evaluate(type(labelled)(info), rows, bootstrap=0), tmp_path / "out")
    assert "b" not in {tag for tag, attributes in page.tags if attributes}
    for label in labels:
        assert page.words.count(label) >= 4  # facts, table, and twice in the confusion matrix


def test_a_worst_error_shows_its_text_picture_and_ten_seconds_of_sound(
    labelled: Any, tmp_path: Path
) -> None:
    sound = tmp_path / "long.wav"
    sound.write_bytes(audio.wav(np.full(16_000 * 14, 0.5, np.float32)))
    row = wrong(text="服务太差了", image=np.zeros((300, 900, 3), np.uint8), audio=sound)
    page = page_of(evaluate(labelled, [row], bootstrap=0), tmp_path / "out")
    assert "服务太差了" in page.words
    (image,), (player,) = page.sources("img"), page.sources("audio")
    shown = Image.open(io.BytesIO(base64.b64decode(image.removeprefix("data:image/jpeg;base64,"))))
    assert shown.size == (320, 107)
    heard = base64.b64decode(player.removeprefix("data:audio/wav;base64,"))
    assert soundfile.info(io.BytesIO(heard)).duration == 10.0


def test_what_mattered_is_laid_over_the_picture_of_a_worst_error(
    labelled: Any, tmp_path: Path
) -> None:
    rows = [wrong(image=np.full((80, 80, 3), 128, np.uint8)), wrong(text="糟")]
    report = evaluate(labelled, rows, bootstrap=0)
    grid = tuple(tuple(0.25 * (r == c == 0) for c in range(8)) for r in range(8))
    mattered = [grid if error.record.image is not None else () for error in report.worst]
    page = Page(reports.write(report, tmp_path, regions=mattered).read_text(encoding="utf-8"))
    (image,) = page.sources("img")
    shown = Image.open(io.BytesIO(base64.b64decode(image.removeprefix("data:image/jpeg;base64,"))))
    corner, middle = shown.getpixel((1, 1)), shown.getpixel((40, 40))
    assert isinstance(corner, tuple)
    assert isinstance(middle, tuple)
    assert corner[0] > 180 > corner[2], "orange: it spoke for the answer"
    assert max(middle) - min(middle) < 8, "grey: it did not matter"
    for told in ("orange spoke for the answer", "橙色支持该预测", "-0.250"):
        assert told in page.words
    plain = Page(reports.write(report, tmp_path).read_text(encoding="utf-8"))
    assert "orange" not in plain.words


def test_media_that_can_no_longer_be_read_say_so_in_their_place(
    labelled: Any, tmp_path: Path
) -> None:
    rows = [
        wrong(text=np.zeros((5, 7), np.float32), image=tmp_path / "gone.jpg", audio=b"not sound"),
        wrong(image=np.zeros(9, np.float32)),
    ]
    page = page_of(evaluate(labelled, rows, bootstrap=0), tmp_path / "out")
    assert not page.sources("img")
    assert "图片: precomputed features (9,)" in page.words
    assert not page.sources("audio")
    assert "Picture: can no longer be shown" in page.words
    assert "gone.jpg" in page.words
    assert "Sound: can no longer be shown" in page.words
    assert "precomputed features (5, 7)" in page.words


def test_every_heading_stands_in_both_languages(labelled: Any, tmp_path: Path) -> None:
    page = page_of(evaluate(labelled, [wrong(text="a")], bootstrap=0), tmp_path / "out")
    n_english = sum(attributes.get("class") == "en" for _, attributes in page.tags)
    n_chinese = sum(attributes.get("class") == "zh" for _, attributes in page.tags)
    assert n_english == n_chinese > 20
    assert "Worst errors" in page.words
    assert "最严重的错误" in page.words


def test_the_numbers_are_those_of_the_report(labelled: Any, tmp_path: Path) -> None:
    report = evaluate(labelled, [wrong(text="a"), Record(GOOD, text="b", target="good")])
    reports.write(report, tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert numbers == report.to_dict()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_the_same_report_is_the_same_page(labelled: Any, tmp_path: Path) -> None:
    report = evaluate(labelled, [wrong(text="a", image=picture())], bootstrap=20)
    first, again = (reports.write(report, tmp_path / d, history=HISTORY) for d in "ab")
    assert first.read_bytes() == again.read_bytes()


def test_a_regression_has_a_page_without_labels(numbered: Any, tmp_path: Path) -> None:
    report = evaluate(numbered, [Record("1", text="fine", target="-1")])
    page = page_of(report, tmp_path / "out")
    assert "Mean absolute error" in page.words
    assert "By label" not in page.words
    assert "–" in page.words  # Pearson of one row


def test_half_a_surrogate_pair_does_not_stop_the_report(labelled: Any, tmp_path: Path) -> None:
    report = evaluate(labelled, [wrong(text="half \ud83d only")], bootstrap=0)
    page = page_of(report, tmp_path)
    assert r"half \ud83d only" in page.words
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["n"] == 1


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_the_extra(
    labelled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    report = evaluate(labelled, [wrong(text="a")], bootstrap=0)
    monkeypatch.setitem(sys.modules, package, None)  # as Python itself marks what is not there
    with pytest.raises(CapacityError, match=re.escape("pip install 'moodal[report]'")):
        reports.write(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_an_error_that_leaves_it_alone(labelled: Any, tmp_path: Path) -> None:
    report = evaluate(labelled, [wrong(text="a")], bootstrap=0)
    file = tmp_path / "out"
    file.write_text("mine", encoding="utf-8")
    for out in (file, file / "inside"):
        with pytest.raises(DataError, match="--out"):
            reports.write(report, out)
    assert file.read_text(encoding="utf-8") == "mine"


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_report_that_cannot_be_finished_leaves_the_old_one_whole(
    labelled: Any, tmp_path: Path
) -> None:
    reports.write(evaluate(labelled, [wrong(text="a")], bootstrap=0), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # The numbers fit, the page does not.
    with pytest.raises((CapacityError, OSError)), files_of_at_most(12_000):
        reports.write(evaluate(labelled, [wrong(text="new")], bootstrap=0), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_table_lines_up_with_chinese_in_it(labelled: Any) -> None:
    rows = [
        Record(BAD, text="x", target=target, group=group)
        for target in ("bad", "good")
        for group in ("说话人甲", "ann")
    ]
    lines = reports.table(evaluate(labelled, rows, name="test.csv")).splitlines()
    assert lines[0] == "fruit on test.csv: 4 rows scored, 0 rejected, 0 unlabelled"
    head, ann, jia = lines[-3:]
    assert head.split()[:4] == ["group", "n", "accuracy", "macro_f1"]
    assert jia.split()[:3] == ["说话人甲", "2", "0.500"]
    assert len(jia) + 4 == len(ann) == len(head)  # four characters, two places each
    assert any(re.fullmatch(r"accuracy +0\.500  \[0\.\d+, [01]\.\d+\]", line) for line in lines)


def test_the_table_lists_twenty_groups_and_counts_the_rest(labelled: Any) -> None:
    rows = [Record(BAD, text="x", target="bad", group=f"g{i:02}") for i in range(23)]
    table = reports.table(evaluate(labelled, rows, bootstrap=0))
    assert "g19" in table
    assert "g20" not in table
    assert table.endswith("... and 3 more, in the report")
