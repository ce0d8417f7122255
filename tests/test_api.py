"""The verbs as a program calls them: files in, files out, each whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tiny import LABELS, SETTINGS, rows, train_once

import moodal
from moodal import api, config
from moodal.data import manifest
from moodal.errors import ConfigError, DataError, ModelError
from moodal.training import run as run_module
from moodal.types import Prediction, Rejection

TEXTS = "id,text,label\n1,这部电影很精彩,good\n2,an awful day,bad\n3,okay,fair\n"


@pytest.fixture(scope="module")
def model() -> moodal.Model:
    return moodal.load(train_once())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text(TEXTS, encoding="utf-8")
    return path


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


# ---- predict -----------------------------------------------------------------------------------


def test_a_file_is_answered_as_its_records_are(model: moodal.Model, tmp_path: Path) -> None:
    dev, out = train_once().parent / "data" / "dev.csv", tmp_path / "out.jsonl"
    counts = api.predict_file(dev, model=model, out=out)
    records = list(manifest.read(dev))
    assert counts == {"predicted": len(records), "rejected": 0}
    for line, answer in zip(answers(out), model.predict_many(records), strict=True):
        assert isinstance(answer, Prediction)
        assert line == json.loads(json.dumps(answer.to_dict()))


def test_a_bad_row_is_answered_in_its_place(model: moodal.Model, tmp_path: Path) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    file.write_text("id,text,image\na,good,\nb,,gone.png\nc,,\nd,bad,\n", encoding="utf-8")
    assert api.predict_file(file, model=model, out=out) == {"predicted": 2, "rejected": 2}
    lines = answers(out)
    assert [line["id"] for line in lines] == ["a", "b", "c", "d"]
    assert lines[1]["error"]["source"] == "in.csv row 2"
    assert lines[1]["error"]["field"] == "image"
    assert "No such file" in lines[1]["error"]["reason"]
    assert lines[2]["error"] == {
        "source": "in.csv row 3",
        "field": "",
        "reason": "holds no text, image or audio; fill at least one of these cells",
    }
    assert set(lines[2]) == {"id", "error"}


def test_chinese_stays_as_it_is(model: moodal.Model, file: Path, tmp_path: Path) -> None:
    api.predict_file(file, model=model, out=tmp_path / "预测.jsonl", explain=True)
    first = answers(tmp_path / "预测.jsonl")[0]
    assert "".join(word for word, _ in first["words"]) == "这部电影很精彩"
    assert "精彩" in (tmp_path / "预测.jsonl").read_text(encoding="utf-8"), "not escaped"


def test_half_a_surrogate_in_a_row_harms_no_other(model: moodal.Model, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"id": "\\ud83d", "text": "good"}\n{"text": "good"}\n', encoding="utf-8")
    assert api.predict_file(file, model=model, out=out) == {"predicted": 1, "rejected": 1}
    assert answers(out)[0]["id"] == "\ud83d"


def test_a_file_of_answers_stands_only_once_it_is_whole(
    model: moodal.Model, tmp_path: Path
) -> None:
    """A manifest that turns out broken (its header was fine) leaves what stood there before."""
    file, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    write_parquet(file, [f"text {i}" for i in range(2000)])
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(content)
    out.write_text("before", encoding="utf-8")
    with pytest.raises(DataError, match=r"in\.parquet: cannot be read"):
        api.predict_file(file, model=model, out=out)
    assert out.read_text(encoding="utf-8") == "before"
    assert names(tmp_path) == ["in.parquet", "out.jsonl"]


def write_parquet(path: Path, texts: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows AS SELECT unnest(?) AS text", [texts])
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")


def test_where_answers_cannot_go_is_said_before_any_work(
    model: moodal.Model, file: Path, tmp_path: Path
) -> None:
    for out, said in (
        (tmp_path / "nowhere" / "out.jsonl", "there is no folder .*nowhere; make it first"),
        (tmp_path, "is a folder or a device; name a file"),
        (Path("/dev/null"), "is a folder or a device; name a file"),
        (file, "is the file that is read; name another"),
    ):
        with pytest.raises(ConfigError, match=said):
            api.predict_file(file, model="no model", out=out)
    assert file.read_text(encoding="utf-8") == TEXTS


def test_columns_may_be_renamed(model: moodal.Model, tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text(TEXTS.replace(",", "\t").replace("text", "评论"), encoding="utf-8")
    api.predict_file(file, model=model, out=tmp_path / "one")
    api.predict_file(other, model=model, out=tmp_path / "two", renames={"text": "评论"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_unknown_column_is_named_with_those_that_are_there(
    model: moodal.Model, file: Path
) -> None:
    with pytest.raises(DataError, match=r"texts\.csv: has no column 'review'; .* id, text, label"):
        api.predict_file(file, model=model, renames={"text": "review"})
    with pytest.raises(ConfigError, match=r"columns\.txt: there is no such setting, only id, text"):
        api.predict_file(file, model=model, renames={"txt": "text"})


# ---- train -------------------------------------------------------------------------------------


def numbers(folder: Path, name: str, labels: str = "abababab") -> Path:
    rows = [{"text": [i % 3, 1.0, ord(c) - 97.5], "label": c} for i, c in enumerate(labels)]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


QUICK = (*SETTINGS, "train.epochs=1")


def test_train_returns_the_model_it_saved(tmp_path: Path) -> None:
    train, valid = numbers(tmp_path, "train.jsonl"), numbers(tmp_path, "valid.jsonl")
    model = api.train(train, valid=str(valid), out=str(tmp_path / "model"), settings=QUICK)
    assert model.info == moodal.load(tmp_path / "model").info
    assert model.info.labels == ("a", "b")
    assert names(tmp_path) == ["model", "train.jsonl", "valid.jsonl"]


def test_without_a_second_file_the_same_rows_are_held_out_and_nothing_else_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "train.jsonl"
    rows = [{"text": f"lovely {i}", "label": "ab"[i % 2]} for i in range(40)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    infos = []
    for name in ("one", "two"):
        model = api.train(train, out=tmp_path / "deep" / name, settings=QUICK)
        assert "4 of 40 rows are held out" in capsys.readouterr().err
        infos.append(model.info)
    assert infos[0].data == infos[1].data
    assert [infos[0].data[part]["rows"] for part in ("train", "valid")] == [36, 4]
    other = api.train(train, out=tmp_path / "three", settings=(*QUICK, "train.seed=1"))
    assert other.info.data["valid"]["sha256"] != infos[0].data["valid"]["sha256"]
    assert names(tmp_path) == ["deep", "three", "train.jsonl"]
    assert names(tmp_path / "deep") == ["one", "two"]


def test_a_row_that_cannot_be_used_is_named_by_its_own_number_where_rows_are_held_out(
    tmp_path: Path,
) -> None:
    train = tmp_path / "train.csv"
    lines = [f"lovely {i},{'ab'[i % 2]}" for i in range(40)]
    train.write_text("text,label\n" + "\n".join([*lines[:30], ",a", *lines[30:]]), encoding="utf-8")
    model = api.train(train, out=tmp_path / "model", settings=("train.epochs=1",))
    (rejection,) = model.info.data["train"]["rejections"]
    assert rejection["source"] == "train.csv row 31"
    assert model.info.data["valid"]["rejected"] == 0


def test_a_run_without_a_second_file_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = rows(tmp_path / "data")
    given = {"out": tmp_path / "m", "settings": (*SETTINGS, f"cache={tmp_path / 'cache'}")}
    whole = api.train(data / "train.csv", **{**given, "out": tmp_path / "whole"})
    finish = run_module.finish
    monkeypatch.setattr(run_module, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        api.train(data / "train.csv", **given)
    monkeypatch.setattr(run_module, "finish", finish)
    assert names(tmp_path) == ["data", "m.training", "whole"]
    model = api.train(data / "train.csv", **given, resume=True)
    assert model.info.data == whole.info.data
    assert names(tmp_path) == ["data", "m", "whole"]


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_settings_lie_over_a_run_and_over_a_file(tmp_path: Path) -> None:
    train = numbers(tmp_path, "train.jsonl")
    (tmp_path / "run.yaml").write_text("train: {epochs: 3, seed: 5}\n", encoding="utf-8")
    for run in (config.load(settings=["train.epochs=3", "train.seed=5"]), tmp_path / "run.yaml"):
        model = api.train(train, valid=train, out=tmp_path / "m", run=run, settings=QUICK)
        assert len(model.info.history) == 1
        assert "seed: 5" in (tmp_path / "m" / "config.yaml").read_text(encoding="utf-8")


def test_a_model_may_be_written_to_the_folder_that_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = numbers(tmp_path, "train.jsonl")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert api.train(train, valid=train, out=".", settings=QUICK).info.name == "here"
    monkeypatch.chdir(tmp_path)
    assert moodal.load("here").info.labels == ("a", "b")
    assert names(tmp_path) == ["here", "train.jsonl"]


def test_a_folder_of_something_else_is_refused_before_training(tmp_path: Path) -> None:
    train = numbers(tmp_path, "train.jsonl")
    with pytest.raises(ConfigError, match="exists and is not a model; name a new folder"):
        api.train(train, valid=train, out=tmp_path, settings=QUICK)
    assert names(tmp_path) == ["train.jsonl"]


# ---- evaluate ----------------------------------------------------------------------------------


def test_evaluate_takes_a_file_or_records(model: moodal.Model, file: Path) -> None:
    from_file = api.evaluate(file, model=model)
    records = manifest.read(file)
    from_records = api.evaluate(records, model=train_once())
    assert from_file.scores == from_records.scores
    assert (from_file.name, from_records.name) == ("texts.csv", "records")


def test_evaluate_writes_only_where_it_is_told(
    model: moodal.Model, file: Path, tmp_path: Path
) -> None:
    api.evaluate(file, model=model)
    assert names(tmp_path) == ["texts.csv"]
    report = api.evaluate(file, model=model, out=tmp_path / "report")
    assert names(tmp_path / "report") == ["report.html", "report.json"]
    written = json.loads((tmp_path / "report" / "report.json").read_bytes())
    assert written == json.loads(json.dumps(report.to_dict()))


def test_only_the_named_labels_compete(model: moodal.Model, file: Path) -> None:
    report = api.evaluate(file, model=model, among=["bad", "good"])
    assert report.labels == ("bad", "good")
    assert report.scores["n"] == 2
    assert report.set_aside == 1
    with pytest.raises(ConfigError, match=r"among 'bad, superb'.* it knows bad, fair, good"):
        api.evaluate(file, model=model, among=["bad", "superb"])


def test_a_model_remembers_the_columns_it_was_trained_with(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    header = "评论,mood,who"
    rows = [f"{w} day,{m},{i}" for i, (w, m) in enumerate([("good", "up"), ("bad", "down")] * 8)]
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    named = ("columns.text=评论", "columns.label=mood", "columns.group=who")
    model = api.train(file, valid=file, out=tmp_path / "model", settings=(*QUICK, *named))
    assert api.evaluate(file, model=model).scores["n"] == 16
    out = tmp_path / "out.jsonl"
    assert api.predict_file(file, model=model, out=out) == {"predicted": 16, "rejected": 0}
    plain = tmp_path / "plain.csv"
    plain.write_text("text\ngood\n", encoding="utf-8")
    assert api.predict_file(plain, model=model, out=out) == {"predicted": 1, "rejected": 0}


# ---- models that are not whole -------------------------------------------------------------------


def change_a_graph(folder: Path) -> None:
    with (folder / "text.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"?")


def raise_the_format(folder: Path) -> None:
    values = json.loads((folder / "bundle.json").read_bytes()) | {"format": 99}
    (folder / "bundle.json").write_text(json.dumps(values), encoding="utf-8")


def empty_the_info(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change_a_graph, r"text\.onnx: has changed since it was saved .* copy the model again"),
        (raise_the_format, r"bundle\.json: has format 99, .* reads 1; use the version that wrote"),
        (empty_the_info, r"bundle\.json: is damaged .*; copy the model again"),
        (shutil.rmtree, r"model: is not a model, it has no bundle\.json"),
    ],
)
def test_a_model_that_is_not_whole_answers_nothing(
    harm: Callable[[Path], None], said: str, file: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(train_once(), tmp_path / "model")
    harm(folder)
    before = names(tmp_path)
    for act in (
        lambda: api.predict_file(file, model=folder, out=tmp_path / "out"),
        lambda: api.evaluate(file, model=folder, out=tmp_path / "out"),
        lambda: api.load(folder).predict(text="good"),
    ):
        with pytest.raises(ModelError, match=said):
            act()
    assert names(tmp_path) == before


# ---- load, check -------------------------------------------------------------------------------


def test_load_takes_a_path_or_its_name(tmp_path: Path) -> None:
    assert moodal.load(str(train_once())).info == moodal.load(train_once()).info
    assert moodal.load(train_once()).info.labels == LABELS


def test_check_names_what_is_wrong_and_fix_leaves_it_out(tmp_path: Path) -> None:
    data = train_once().parent / "data"
    shutil.copy(data / "dev-0.png", tmp_path / "fine.png")
    (tmp_path / "cut.png").write_bytes((data / "dev-0.png").read_bytes()[:60])
    file, fixed = tmp_path / "in.csv", tmp_path / "fixed.csv"
    file.write_text("id,image,label\na,fine.png,x\nb,cut.png,y\n", encoding="utf-8")
    report = api.check(file, fix=fixed)
    assert fixed.read_text(encoding="utf-8").splitlines() == ["id,image,label", "a,fine.png,x"]
    assert "cut.png" in json.dumps(report.to_dict())


def test_answers_and_rejections_are_all_there_is(model: moodal.Model) -> None:
    kinds = {type(a) for a in model.predict_many([{"text": "good"}, {"text": 1}])}
    assert kinds == {Prediction, Rejection}


def test_a_report_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        api.evaluate(tmp_path / "missing.csv", model=tmp_path / "missing", out=tmp_path / "file")


def test_a_text_column_that_is_not_wanted_is_not_learned_from(tmp_path: Path) -> None:
    data = rows(tmp_path / "data")
    settings = [*SETTINGS, "modalities=[image]", "text.min_count=1000", "train.epochs=1"]
    model = api.train(
        data / "train.csv", valid=data / "dev.csv", out=tmp_path / "m", settings=settings
    )
    assert model.info.modalities == ("image",)
