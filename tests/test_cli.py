"""The commands of the contract, in process and as processes: output, exit codes, help, JSON."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny import LABELS, NUMBERED, SETTINGS, train_once

from moodal import cli
from moodal.cli import show
from moodal.errors import ConfigError, DataError, ModelError, MoodalError, RecordError

TEXTS = "id,text,label\n1,这部电影很精彩,good\n2,an awful day,bad\n3,okay,fair\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    path.write_text(TEXTS, encoding="utf-8")
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(arg) for arg in args])


def ok(*args: object) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def failed(error: type[MoodalError], *args: object) -> str:
    result = run(*args)
    assert isinstance(result.exception, error), result.output
    assert result.exit_code == 1
    assert result.stdout == ""
    return str(result.exception)


def process(
    *args: object, stdin: bytes = b"", cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "moodal.cli", *map(str, args)],
        input=stdin,
        cwd=cwd,
        env=os.environ | environ,
        capture_output=True,
        check=False,
        timeout=60,
    )


def lines(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---- the contract ------------------------------------------------------------------------------


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


CONTRACT = {
    ("data", "toy"): "--rows --seed",
    ("data", "check"): "--against",
    ("data", "split"): "--out --group --ratios",
    ("train",): "--valid --out --task --config --set --label --target --group --resume",
    (
        "tune",
    ): "--valid --out --trials --time --space --storage --seeds --whole --set --label --from",
    (
        "compress",
    ): "--model --train --valid --out --steps --max-drop --target-ms --target-mb --teacher --set",
    ("compare",): "--test --out --max-drop --max-ms --max-mb",
    ("evaluate",): "--model --checklist --out --among",
    ("predict",): "--model --text --image --audio --out --explain --heatmap",
    ("info",): "",
    ("serve",): "--model --host --port --workers --store --api-keys --keep-inputs --config --set",
    ("keys", "add"): "",
    ("keys", "list"): "",
    ("keys", "remove"): "",
    ("feedback", "export"): "--store --out --inputs --reviewed",
    ("retrain",): "--store --from --train --out --valid --inputs --unreviewed --set --resume",
    ("promote",): "--over --test --store --sure",
    ("rollback",): "--store",
    ("monitor",): "--store --since --model",
}
SPEAK_ALWAYS = {("serve",)}
"""Their log is JSON whatever is asked."""


def test_the_commands_are_those_of_the_contract() -> None:
    assert set(commands(cli.cli)) == set(CONTRACT)


@pytest.mark.parametrize("names", CONTRACT, ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(names: tuple[str, ...]) -> None:
    helped = ok(*names, "--help")
    for option in ("-h, --help", *CONTRACT[names].split()):
        assert option in helped
    assert "--json" in helped or names in SPEAK_ALWAYS
    command: Any = cli.cli
    for name in names:
        command = command.commands[name]
    unexplained = [o.name for o in command.params if isinstance(o, click.Option) and not o.help]
    assert not unexplained, "every option says what it does"
    assert command.help


def test_the_version_is_told() -> None:
    assert "0.1.0" in ok("--version")


@pytest.mark.parametrize(
    "args",
    [
        ("predct",),
        ("predict",),
        ("predict", "--model", "m"),
        ("predict", "in.csv", "--model", "m", "--text", "good"),
        ("predict", "--model", "m", "--text", "good", "--out", "out.jsonl"),
        ("predict", "--model", "m", "--text", "good", "--column", "text=review"),
        ("predict", "in.csv", "--model", "m", "--column", "review"),
        ("train", "in.csv"),
        ("train", "in.csv", "--valid", "v.csv", "--out", "m", "--column", "review"),
        ("train", "in.csv", "--out", "m", "--label", "a", "--target", "b"),
        ("train", "in.csv", "--out", "m", "--task", "guess"),
        ("tune", "in.csv", "--out", "t"),
        ("tune", "in.csv", "--valid", "v.csv", "--out", "t", "--trials", "0"),
        ("tune", "in.csv", "--valid", "v.csv", "--out", "t", "--label", "a", "--target", "b"),
        ("predict", "--model", "m", "--text", "good", "--heatmap", "out.png"),
        ("predict", "in.csv", "--model", "m", "--heatmap", "out.png"),
        ("evaluate", "--model", "m"),
        ("evaluate", "in.csv", "--checklist", "--model", "m"),
        ("evaluate", "--checklist", "--model", "m", "--among", "good,bad"),
        ("evaluate", "--checklist", "--model", "m", "--column", "text=review"),
        ("info",),
        ("data", "toy", "d", "--rows", "3"),
        ("data", "split", "in.csv", "--out", "d", "--ratios", "a,b"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_two_and_says_how_to_get_help(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


# ---- one record --------------------------------------------------------------------------------

PREDICTION = {
    "id",
    "label",
    "probabilities",
    "confidence",
    "modalities",
    "contributions",
    "value",
    "abstain",
    "reason",
    "text",
    "tokens",
    "words",
    "regions",
}


def test_one_record_as_json_carries_what_the_contract_says() -> None:
    image = train_once().parent / "data" / "dev-0.png"
    out = ok("predict", "--model", train_once(), "--text", "真的很精彩", "--image", image, "--json")
    (answer,) = lines(out)
    assert set(answer) == PREDICTION
    assert answer["modalities"] == ["text", "image"]
    assert set(answer["contributions"]) == {"text", "image"}
    assert "精彩" in [word for word, _ in answer["words"]]
    assert "精彩" in out, "not escaped"


def test_one_record_for_people() -> None:
    (answer,) = lines(ok("predict", "--model", train_once(), "--text", "great", "--json"))
    out = ok("predict", "--model", train_once(), "--text", "great").splitlines()
    assert out[0].startswith(f"{answer['label']}  {answer['confidence']:.3f}")
    assert [line.split() for line in out[1:4]] == [
        [label, f"{p:.3f}"] for label, p in answer["probabilities"].items()
    ]
    assert out[4].startswith("from  text ")
    assert out[5].startswith("words great ")


def test_an_unsure_answer_says_so() -> None:
    answer = {
        "label": "good",
        "value": None,
        "confidence": 0.4,
        "abstain": True,
        "reason": "unsure",
        "probabilities": {"good": 0.4},
        "contributions": {"text": 0.1},
        "text": None,
        "tokens": [],
        "words": [],
        "regions": [],
    }
    first, *_ = show.answer_text(answer).splitlines()
    assert first == "good  0.400  (abstains: not sure enough / 弃权：把握不足)"


def test_an_answer_that_is_a_text_is_told_as_one() -> None:
    answer = {
        "label": None,
        "value": None,
        "text": "一个标题",
        "confidence": 0.5,
        "probabilities": {},
        "reason": "",
        "contributions": {"text": 0.5},
        "tokens": [],
        "words": [],
        "regions": [],
    }
    assert show.answer_text(answer).splitlines() == ["一个标题  0.500", "from  text +0.500"]


def test_a_record_that_cannot_be_read_is_an_error() -> None:
    model = ("--model", train_once())
    said = failed(RecordError, "predict", *model, "--image", "nowhere.jpg", "--text", "x")
    assert said == "image: nowhere.jpg: No such file or directory; correct the path"
    assert "is not a file" in failed(RecordError, "predict", *model, "--audio", "")


def test_a_heat_map_is_a_picture_as_large_as_what_it_explains(tmp_path: Path) -> None:
    picture = train_once().parent / "data" / "dev-0.png"
    given = ("predict", "--model", train_once(), "--image", picture)
    for name in ("map.png", "map.JPG"):
        said = ok(*given, "--heatmap", tmp_path / name)
        with Image.open(tmp_path / name) as made, Image.open(picture) as original:
            assert made.size == original.size
            assert made.format == ("PNG" if name == "map.png" else "JPEG")
            assert made.convert("RGB").tobytes() != original.convert("RGB").tobytes()
        assert "\nregion row " in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.JPG", "map.png"]
    assert "ends in .png, .jpg" in failed(ConfigError, *given, "--heatmap", tmp_path / "map.gif")
    there = failed(ConfigError, *given, "--heatmap", tmp_path / "no" / "map.png")
    assert "there is no folder" in there


def test_a_heat_map_of_a_model_that_reads_no_pictures_is_refused(tmp_path: Path) -> None:
    texts = "".join(f"good {i},a\nbad {i},b\n" for i in range(8))
    (tmp_path / "texts.csv").write_text("text,label\n" + texts, encoding="utf-8")
    settings = [part for s in (*SETTINGS, "train.epochs=1") for part in ("--set", s)]
    ok("train", tmp_path / "texts.csv", "--out", tmp_path / "m", *settings)
    picture = train_once().parent / "data" / "dev-0.png"
    given = ("predict", "--model", tmp_path / "m", "--text", "good", "--image", picture)
    said = failed(ConfigError, *given, "--heatmap", tmp_path / "map.png")
    assert "no picture had a part in the answer (it was made from text)" in said
    assert not (tmp_path / "map.png").exists()


# ---- files -------------------------------------------------------------------------------------


def test_a_file_is_answered_to_standard_output_or_to_a_file(file: Path, tmp_path: Path) -> None:
    result = run("predict", file, "--model", train_once())
    out = tmp_path / "out.jsonl"
    counts = json.loads(ok("predict", file, "--model", train_once(), "--out", out, "--json"))
    assert counts == {"predicted": 3, "rejected": 0}
    assert out.read_text(encoding="utf-8") == result.stdout
    assert [answer["id"] for answer in lines(result.stdout)] == ["1", "2", "3"]
    assert all(set(answer) == PREDICTION for answer in lines(result.stdout))
    assert result.stderr.split() == ["predicted:", "3", "rejected:", "0"], "counts on stderr"


def test_a_rejected_row_stands_in_its_place_and_the_command_is_done(
    file: Path, tmp_path: Path
) -> None:
    file.write_text("id,text,image\na,good,\nb,,no.png\nc,bad\nd,好,\n", encoding="utf-8")
    out = lines(ok("predict", file, "--model", train_once()))
    assert [answer["id"] for answer in out] == ["a", "b", "3", "d"]
    assert out[1]["error"]["source"] == "texts.csv row 2"
    assert out[1]["error"]["field"] == "image"
    assert "2 cells where the header has 3" in out[2]["error"]["reason"]


def test_explain_says_the_words_of_every_row(file: Path) -> None:
    plain = lines(ok("predict", file, "--model", train_once()))
    told = lines(ok("predict", file, "--model", train_once(), "--explain"))
    assert [a["words"] for a in plain] == [[], [], []]
    assert [[w for w, _ in a["words"]] for a in told][1:] == [["an", "awful", "day"], ["okay"]]


def test_parquet_is_answered_as_csv_is(file: Path, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{file}', all_varchar=true)) "
            f"TO '{tmp_path / 'in.parquet'}' (FORMAT parquet)"
        )
    assert ok("predict", tmp_path / "in.parquet", "--model", train_once()) == ok(
        "predict", file, "--model", train_once()
    )


def test_a_column_is_renamed(file: Path) -> None:
    plain = ok("predict", file, "--model", train_once())
    file.write_text(TEXTS.replace("text", "评论"), encoding="utf-8")
    assert ok("predict", file, "--model", train_once(), "--column", "text=评论") == plain
    said = failed(DataError, "predict", file, "--model", train_once())
    assert "texts.csv: has no column text, image or audio; its columns are id, 评论, label" in said
    said = failed(ConfigError, "predict", file, "--model", train_once(), "--column", "txt=评论")
    assert "columns.txt: there is no such setting, only id, text, image" in said


def test_a_column_may_be_named_as_yaml_would_misread_it(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    rows = [f"{word} day,{word}" for word in ("good", "bad") * 8]
    file.write_text("\n".join(["no,2024", *rows]) + "\n", encoding="utf-8")
    settings = [part for s in (*SETTINGS, "train.epochs=1") for part in ("--set", s)]
    named = ("--column", "text=no", "--label", "2024")
    out = ok("train", file, "--valid", file, "--out", tmp_path / "m", *named, *settings, "--json")
    assert json.loads(out)["labels"] == ["bad", "good"]
    checked = json.loads(ok("data", "check", file, "--column", "text=no", "--json"))
    assert checked


# ---- evaluate, info, train, data ---------------------------------------------------------------


def test_evaluate_as_json_carries_what_the_contract_says(file: Path, tmp_path: Path) -> None:
    report = json.loads(ok("evaluate", file, "--model", train_once(), "--json"))
    assert {
        "n",
        "accuracy",
        "macro_f1",
        "weighted_f1",
        "macro_recall",
        "calibration_error",
        "subsets",
        "languages",
        "groups",
        "rejected",
    } <= set(report)
    assert set(report["languages"]) == {"en", "zh"}
    out = ok("evaluate", file, "--model", train_once(), "--out", tmp_path / "report")
    assert "accuracy" in out.lower()
    assert (tmp_path / "report" / "report.html").is_file()


def test_among_lets_only_the_named_labels_compete(file: Path) -> None:
    args = ("evaluate", file, "--model", train_once(), "--json")
    report = json.loads(ok(*args, "--among", "good, bad"))
    assert (report["n"], report["set_aside"], report["labels"]) == (2, 1, ["bad", "good"])
    said = failed(ConfigError, *args, "--among", "good,superb")
    assert "it knows bad, fair, good" in said


def test_evaluate_by_the_checklist_needs_no_file(tmp_path: Path) -> None:
    args = ("evaluate", "--checklist", "--model", train_once())
    found = json.loads(ok(*args, "--json", "--out", tmp_path / "found"))
    assert found["n"] + found["skipped"] >= 200
    assert found["capabilities"]["negation"]["languages"].keys() == {"en", "zh"}
    written = tmp_path / "found" / "checklist.json"
    assert json.loads(written.read_text(encoding="utf-8")) == found
    assert "negation 否定" in ok(*args)
    assert "is a file" in failed(DataError, *args, "--out", written)


def test_info_tells_and_verifies(tmp_path: Path) -> None:
    told = json.loads(ok("info", train_once(), "--json"))
    assert told["labels"] == list(LABELS)
    assert told["modalities"] == ["text", "image", "audio"]
    assert told["size_bytes"] == sum(f.stat().st_size for f in train_once().iterdir())
    assert len(told["data"]["train"]["sha256"]) == 64
    assert told["scores"]["all"]["n"] == 24
    assert {"task", "kinds", "parameters", "created"} <= set(told)
    assert "every file is as it was saved" in ok("info", train_once())

    copy = shutil.copytree(train_once(), tmp_path / "copy")
    (copy / "card.md").write_text("It is perfect.", encoding="utf-8")
    for form in ((), ("--json",)):
        assert "card.md: has changed since it was saved" in failed(ModelError, "info", copy, *form)


def test_train_tells_what_it_made(tmp_path: Path) -> None:
    data = train_once().parent / "data" / "dev.csv"
    texts = tmp_path / "texts.csv"
    with data.open(encoding="utf-8", newline="") as source, texts.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerows((row["id"], row["text"], row["label"]) for row in csv.DictReader(source))
    texts.write_text("id,text,label\n" + texts.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "run.yaml").write_text("train: {epochs: 9}\n", encoding="utf-8")
    settings = [part for s in (*SETTINGS, "train.epochs=1") for part in ("--set", s)]
    common = ("train", texts, "--valid", texts, "--config", tmp_path / "run.yaml", *settings)
    told = json.loads(ok(*common, "--out", tmp_path / "one", "--json"))
    assert told == json.loads(ok("info", tmp_path / "one", "--json"))
    assert told["modalities"] == ["text"]
    assert "# two" in ok(*common, "--out", tmp_path / "two")


def test_train_holds_rows_out_for_want_of_a_second_file(tmp_path: Path) -> None:
    texts = tmp_path / "texts.csv"
    lines = "".join(f"lovely {i},a,7\nawful {i},b,-7\n" for i in range(30))
    texts.write_text("text,answer,number\n" + lines, encoding="utf-8")
    settings = [part for s in (*SETTINGS, "train.epochs=1") for part in ("--set", s)]
    result = run("train", texts, "--out", tmp_path / "m", "--target", "answer", "--json", *settings)
    assert result.exit_code == 0, result.output
    assert (
        "6 of 60 rows are held out to choose the best epoch by (stratified by label, seed 0)"
        in result.stderr
    )
    told = json.loads(result.stdout)
    assert [told["data"][part]["rows"] for part in ("train", "valid")] == [54, 6]
    assert told["labels"] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "texts.csv"]


def test_task_is_the_setting_task(tmp_path: Path) -> None:
    texts = tmp_path / "texts.csv"
    lines = "".join(f"lovely {i},7\nawful {i},-7\n" for i in range(20))
    texts.write_text("text,label\n" + lines, encoding="utf-8")
    settings = [part for s in (*SETTINGS, "train.epochs=1") for part in ("--set", s)]
    given = ("train", texts, "--out", tmp_path / "m", "--task", NUMBERED, "--json", *settings)
    assert json.loads(ok(*given))["task"] == NUMBERED


def test_data_toy_check_and_split(tmp_path: Path) -> None:
    made = json.loads(ok("data", "toy", tmp_path / "toy", "--rows", "30", "--json"))
    assert made
    train = tmp_path / "toy" / "train.csv"
    report = json.loads(
        ok("data", "check", train, "--against", tmp_path / "toy" / "dev.csv", "--json")
    )
    assert report
    assert "text" in ok("data", "check", train)
    ok("data", "split", train, "--out", tmp_path / "parts", "--ratios", "0.5,0.25,0.25")
    assert {"train.csv", "dev.csv", "test.csv"} <= {p.name for p in (tmp_path / "parts").iterdir()}


# ---- as processes ------------------------------------------------------------------------------


def test_standard_input_may_be_csv_or_jsonl(file: Path) -> None:
    """Through a pipe; on a machine set to ASCII, Chinese comes out as it went in."""
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    args = ("predict", "-", "--model", train_once(), "--explain")
    from_csv = process(*args, stdin=file.read_bytes(), **ascii_only)
    rows = csv.DictReader(TEXTS.splitlines())
    jsonl = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    from_jsonl = process(*args, stdin=jsonl.encode())
    assert from_csv.returncode == from_jsonl.returncode == 0, from_csv.stderr
    assert from_csv.stdout == from_jsonl.stdout
    assert "精彩" in from_csv.stdout.decode("utf-8")
    assert [answer["id"] for answer in lines(from_csv.stdout)] == ["1", "2", "3"]
    assert b"predicted: 3" in from_csv.stderr


def test_a_wrong_input_exits_with_one_and_a_line_on_stderr(tmp_path: Path) -> None:
    done = process("predict", "-", "--model", train_once(), stdin="评论\n好\n".encode())
    assert done.returncode == 1
    assert done.stdout == b""
    said = done.stderr.decode("utf-8")
    assert said.startswith("moodal: standard input: has no column text, image or audio")
    assert said.count("\n") == 1, "no traceback"
    nothing = process("info", tmp_path)
    assert nothing.returncode == 1
    assert b"is not a model" in nothing.stderr


def test_wrong_usage_is_two_as_a_process_too() -> None:
    assert process("predict", "--model", "m").returncode == 2


def test_a_broken_manifest_leaves_no_answers(tmp_path: Path) -> None:
    broken = b"id,text\n" + b"1,good\n" * 40 + b"PAR1"
    (tmp_path / "in.parquet").write_bytes(broken)
    args = ("predict", "in.parquet", "--model", train_once(), "--out", "out.jsonl")
    done = process(*args, cwd=tmp_path)
    assert done.returncode == 1
    assert b"in.parquet: cannot be read" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_reader_that_leaves_early_is_no_error_to_tell(file: Path) -> None:
    file.write_text("text\n" + "good\n" * 3000, encoding="utf-8")
    args = [sys.executable, "-m", "moodal.cli", "predict", str(file), "--model", str(train_once())]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["id"] == "1"
        running.stdout.close()
        assert b"Traceback" not in running.stderr.read()
