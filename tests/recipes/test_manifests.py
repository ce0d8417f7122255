"""Tests on a tiny folder of the same layout as the real sets, made here; one on the real ones."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

from moodal.data.manifest import read
from moodal.errors import DataError
from moodal.types import Record
from recipes.base import manifests
from recipes.base.manifests import PARTS, STAGES, fold, held_out, pixels, write
from recipes.base.sets import SETS, Set, hash_of, verify

SPEECH = {"ravdess", "casia"}
PAIRS = {"mvsa-single", "oasis"}
TEXTS = {given.name for given in SETS} - SPEECH - PAIRS - {"fer2013"}
COPY = "Ｇood  Hotel\u3000不错"
COPIED = "good hotel 不错"
SPEAKER = manifests.CASIA_SPEAKERS[2]


def jpeg(seed: Any) -> bytes:
    colours = np.random.default_rng(list(str(seed).encode())).integers(256, size=(8, 8, 3))
    buffer = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return
    image = "STRUCT(bytes BLOB, path VARCHAR)"
    kinds = ", ".join(f'"{k}" {image if k == "image" else "VARCHAR"}' for k in rows[0])
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE rows ({kinds})")
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO rows VALUES ({marks})", [[*r.values()] for r in rows])
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")


def rows_of(given: Set, part: str, folder: Path) -> Iterator[dict[str, Any]]:
    """60 rows of a set with one part, 12 else: labels in turn, groups of four, one unlabelled."""
    n = 12 if "dev" in given.files else 60
    lang = given.languages[0] if given.languages else ""
    for i in range(n):
        name = f"{given.name}-{part}-{i}"
        row = {"id": f"Theme{i // 4} {i % 4 + 1}", "label": given.labels[i % len(given.labels)]}
        if "text" in given.modalities:
            row["text"] = f"{lang} {name}"
        for modality, place in (("image", "images/{}.jpg"), ("audio", "audio/{}.ogg")):
            if modality in given.modalities and given.name != "fer2013":
                path = folder / place.format(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(name) if modality == "image" else name.encode())
                row[modality] = place.format(name)
        if "group" in given.columns:
            row[given.columns["group"]] = f"{given.name}-{i // 4}"
        if given.name == "fer2013":
            yield {**row, "image": {"bytes": jpeg(name), "path": None}}
        else:
            yield {**row, "transcript": "the same words", "lang": lang}


def plant(name: str, part: str, rows: list[dict[str, Any]]) -> None:
    """Copies across parts (2 texts, 1 picture), 2 rows without a label, a text with two labels."""
    match name, part:
        case "chnsenticorp", "dev":
            rows[0]["text"] = COPIED
        case (("chnsenticorp" | "sst2"), "train"):
            rows[1]["text"] = COPY
        case "waimai", "train":
            rows[0]["text"] = rows[1]["text"]
        case "fer2013", "train":
            rows[0]["image"] = {"bytes": jpeg("fer2013-dev-5"), "path": None}
            rows[7]["label"] = ""
        case "fer2013", "dev":
            rows[7]["label"] = ""
        case "casia", _:
            for i, row in enumerate(rows):
                row["speaker"] = manifests.CASIA_SPEAKERS[i // 3 % 3]


@pytest.fixture(scope="module", autouse=True)
def few_triples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "TRIPLES", {"train": 300, "dev": 60})
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, tiny, with what `plant` plants."""
    data = tmp_path_factory.mktemp("data")
    for given in SETS:
        for part, file in given.files.items():
            rows = list(rows_of(given, part, data / given.name))
            plant(given.name, part, rows)
            save(data / given.name / file, rows)
    return data


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out")
    return out, write(data, out)


@pytest.fixture(scope="module")
def chosen(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """As `made`, with another speaker and fold held out, and few rows a set."""
    out = tmp_path_factory.mktemp("chosen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "PER_SET", {"train": 5, "dev": 2})
        return out, write(data, out, dev=held_out(casia_speaker=SPEAKER, oasis_fold=3))


def load(out: Path, stage: str, part: str) -> list[Record]:
    records = list(read(out / stage / f"{part}.jsonl"))
    assert all(isinstance(record, Record) for record in records)
    return [record for record in records if isinstance(record, Record)]


def test_a_stage_of_one_modality_has_the_sets_of_that_modality_alone(
    made: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = made
    for stage, sets in (("text", TEXTS), ("image", {"fer2013"}), ("audio", SPEECH)):
        for part in PARTS:
            records = load(out, stage, part)
            assert {record.modalities for record in records} == {(stage,)}
            assert {record.group for record in records} == sets


def test_every_row_has_a_label_and_media_that_exist(made: tuple[Path, dict[str, Any]]) -> None:
    out, _ = made
    for stage in STAGES:
        for part in PARTS:
            records = load(out, stage, part)
            assert {record.target for record in records} == {"negative", "neutral", "positive"}
            assert len({record.id for record in records}) == len(records)
            for record in records:
                for media in (record.image, record.audio):
                    assert media is None or (
                        Path(str(media)).is_absolute() and Path(media).exists()
                    )


def test_what_stands_in_dev_is_dropped_from_train_and_counted(
    made: tuple[Path, dict[str, Any]],
) -> None:
    out, summary = made
    assert summary["dropped"] == {
        "chnsenticorp": {"text is in dev": 1},
        "fer2013": {"picture is in dev": 1, "unlabelled": 2},
        "sst2": {"text is in dev": 1},
    }
    train, dev = (load(out, "joint", part) for part in PARTS)
    assert not {fold(str(r.text)) for r in train if r.text} & {fold(str(r.text)) for r in dev}
    images = [{pixels(r.image) for r in rows if r.image is not None} for rows in (train, dev)]
    assert not images[0] & images[1]
    assert not {r.audio for r in train if r.audio} & {r.audio for r in dev}


def test_equal_texts_of_one_part_stay_whatever_their_labels(
    made: tuple[Path, dict[str, Any]],
) -> None:
    texts = Counter(record.text for record in load(made[0], "text", "train"))
    assert [text for text, n in texts.items() if n == 2] == ["zh waimai-train-1"]


def test_a_triple_is_of_one_label_one_part_and_three_sets(
    made: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = made
    for part in PARTS:
        rows = [row for stage in STAGES for row in load(out, stage, part)]
        triples = [row for row in rows if row.group == manifests.SYNTHETIC]
        source = {
            (modality, getattr(row, modality), row.target): (row.group, row.lang)
            for row in rows
            if row.group != manifests.SYNTHETIC
            for modality in row.modalities
        }
        assert len(triples) == manifests.TRIPLES[part]
        for record in triples:
            sources = [source[m, getattr(record, m), record.target] for m in record.modalities]
            assert len({group for group, _ in sources}) == 3
            assert record.lang == sources[0][1]
            assert record.id.startswith(manifests.SYNTHETIC)
        share = Counter((record.target, record.lang) for record in triples)
        assert len(share) == 6
        assert max(share.values()) - min(share.values()) <= 1


def test_the_joint_stage_has_all_real_pairs_and_few_rows_of_each_set_of_one_modality(
    chosen: tuple[Path, dict[str, Any]],
) -> None:
    for part, n in (("train", 5), ("dev", 2)):
        rows = Counter(r.group for r in load(chosen[0], "joint", part))
        pairs = [r for r in load(chosen[0], "joint", part) if r.group in PAIRS]
        assert {r.modalities for r in pairs} == {("text", "image")}
        assert sum(rows.pop(name) for name in PAIRS) == len(pairs) > 2 * n
        assert rows.pop(manifests.SYNTHETIC) == manifests.TRIPLES[part]
        assert set(rows.values()) == {n}


def test_folds_of_oasis_share_no_row_and_no_theme(chosen: tuple[Path, dict[str, Any]]) -> None:
    folds = []
    for k in range(manifests.OASIS_FOLDS):
        choice = held_out(oasis_fold=k)["oasis"]
        assert f"fold {k} of 5" in choice.words
        folds.append({f"Theme{i} {j}" for i in range(15) for j in range(4)
                      if choice.is_dev(Record(id=f"Theme{i} {j}"))})  # fmt: skip
    assert sum(map(len, folds)) == 60 == len(set().union(*folds))
    themes = [{id.split()[0] for id in rows} for rows in folds]
    assert sum(map(len, themes)) == 15
    whole = chosen[1]["stages"]["joint"]
    assert sum(whole["dev"]["sets"]["oasis"].values()) == len(folds[3])
    assert sum(whole["train"]["sets"]["oasis"].values()) == 60 - len(folds[3])


def test_the_speaker_held_out_is_in_dev_and_no_other(chosen: tuple[Path, dict[str, Any]]) -> None:
    out, summary = chosen
    assert summary["held_out"]["casia"] == f"speaker {SPEAKER}"
    numbers = {
        part: {int(r.id.split("/")[2]) for r in load(out, "audio", part) if r.group == "casia"}
        for part in PARTS
    }
    assert numbers["dev"] == {i + 1 for i in range(60) if i // 3 % 3 == 2}
    assert numbers["train"] == {i + 1 for i in range(60) if i // 3 % 3 != 2}


def test_a_choice_that_holds_nothing_out_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="casia: no row of it is held out"):
        write(data, tmp_path, dev=held_out(casia_speaker="nobody"))


def test_the_seed_changes_what_the_joint_stage_draws_and_nothing_else(
    data: Path, tmp_path: Path
) -> None:
    few = [s for s in SETS if s.name in ("mvsa-single", "fer2013", "ravdess", "smp2020-ewect")]
    first, again, other = (write(data, tmp_path, seed=seed, sets=few) for seed in (0, 0, 1))
    assert again == first
    for stage in STAGES:
        assert (other["stages"][stage] == first["stages"][stage]) == (stage != "joint")


def test_the_summary_counts_what_is_in_the_files(made: tuple[Path, dict[str, Any]]) -> None:
    out, summary = made
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary
    for stage in STAGES:
        for part in PARTS:
            records, found = load(out, stage, part), summary["stages"][stage][part]
            assert found["rows"] == len(records)
            assert found["languages"] == dict(Counter(r.lang for r in records))
            labels = Counter((r.group, r.target) for r in records)
            assert {(s, x): n for s, of in found["sets"].items() for x, n in of.items()} == labels


def test_copies_differ_in_width_case_and_space_alone() -> None:
    assert fold(COPY) == fold(COPIED) == fold("\ufeffGOOD hotel\n不错")
    assert fold("good hotels 不错") != fold(COPIED)
    assert fold("good hotel, 不错") != fold(COPIED)


def test_a_missing_or_changed_file_is_named(data: Path, tmp_path: Path) -> None:
    given = next(s for s in SETS if s.name == "oasis")
    folder = tmp_path / "oasis"
    with pytest.raises(DataError, match="has no folder 'oasis'"):
        verify(tmp_path, sets=[given])
    (folder / "images").mkdir(parents=True)
    for name, text in (("train.csv", "id\n"), ("images/a.jpg", "a"), ("images/b.jpg", "b")):
        (folder / name).write_text(text, encoding="utf-8")
    hashes = {name: hash_of(folder / name) for name in ("train.csv", "images/")}
    whole = replace(given, sha256=hashes)
    verify(tmp_path, sets=[whole])
    (folder / "images/b.jpg").rename(folder / "images/c.jpg")
    with pytest.raises(DataError, match=r"images: is not what the recipe was made for"):
        verify(tmp_path, sets=[whole])
    (folder / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv: there is no such file"):
        verify(tmp_path, sets=[whole])


def test_the_table_names_every_file_that_is_read() -> None:
    for given in SETS:
        assert set(given.files.values()) <= set(given.sha256)
        assert "train" in given.files
        assert given.licence
        assert given.permits
        media = {"image", "audio"} & set(given.modalities)
        assert (len(given.sha256) > len(given.files)) == (bool(media) and given.name != "fer2013")


@pytest.mark.slow
@pytest.mark.real
def test_the_real_sets_are_whole_and_share_no_text_across_parts(
    real_data: Path, tmp_path: Path
) -> None:
    verify(real_data)
    write(real_data, tmp_path, sets=[given for given in SETS if given.name != "fer2013"])

    def plain(record: Record) -> str:
        return " ".join(unicodedata.normalize("NFKC", str(record.text)).lower().split())

    dev = {plain(r) for s in ("text", "joint") for r in load(tmp_path, s, "dev") if r.text}
    for stage in ("text", "joint"):
        train = load(tmp_path, stage, "train")
        assert len(train) > 30_000
        assert not {plain(r) for r in train if r.text} & dev
