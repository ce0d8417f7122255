"""A search from a space to a model: killed, shared, repeated, and never near the test rows."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import tiny
import yaml
from click.testing import CliRunner
from searches import SETTINGS, SPACE, tune, vectors
from tiny import NUMBERED

from moodal import api, bundle, cli, config, extras
from moodal.errors import CapacityError, ConfigError, DataError
from moodal.tasks import TASKS
from moodal.tuning import compare, finalists, report, run
from moodal.tuning import study as trials
from moodal.tuning.plan import BEST, MODEL, RETRAINED
from moodal.tuning.result import Tried, Tuned, verdict
from moodal.tuning.space import Space, Values

TESTS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


def quiet_numbers(found: Tuned) -> dict[str, Any]:
    """All that the same seed gives again: no seconds, no places."""
    values = found.to_dict()
    values.pop("model")
    for trial in values["trials"]:
        trial.pop("seconds")
    return values


# What it finds


def test_the_winner_beats_defaults_that_learn_nothing_and_is_the_model(found: Tuned) -> None:
    best = found.trials[found.best]
    assert not best.is_default
    assert found.trials[0].is_default
    assert found.comparison is not None
    assert found.comparison.is_better
    assert found.kept == "best"
    assert found.settings["train.learning_rate"] > 0.001  # type: ignore[operator]
    info = bundle.verify(found.model)
    made = config.load(found.model / bundle.CONFIG)
    assert made.train.learning_rate == found.settings["train.learning_rate"]
    assert info.name == "tuned"
    assert verdict(found)[0].startswith(f"The settings of trial {best.number} beat the defaults: ")
    assert "on 40 rows that no trial was scored on. The model has them." in verdict(found)[0]


def test_the_folder_holds_what_the_page_says(found: Tuned) -> None:
    there = {path.name for path in found.model.parent.iterdir()}
    assert there == {
        *("space.yaml", "trials.db", "best.yaml", "model", "retrained"),
        *("report.html", "report.json", ".lock"),
    }
    retrained = {path.name for path in (found.model.parent / RETRAINED).iterdir()}
    names = ("defaults", f"trial-{found.best}")
    assert retrained == {f"{name}-seed-{seed}" for name in names for seed in (0, 1)}
    numbers = json.loads((found.model.parent / "report.json").read_text(encoding="utf-8"))
    assert numbers == json.loads(json.dumps(found.to_dict()))
    assert "Chosen among 12 trials" in (found.model / bundle.CARD).read_text(encoding="utf-8")


def test_the_best_settings_are_a_file_that_train_takes(
    found: Tuned, data: Path, tmp_path: Path
) -> None:
    text = (found.model.parent / BEST).read_text(encoding="utf-8")
    wanted = config.load(found.model.parent / RETRAINED / f"trial-{found.best}-seed-0/config.yaml")
    assert config.load(found.model.parent / BEST) == wanted
    assert f"train.learning_rate: {found.defaults['train.learning_rate']} -> " in text
    model = api.train(
        data / "train.jsonl",
        valid=data / "valid.jsonl",
        out=tmp_path / "again",
        run=found.model.parent / BEST,
    )
    assert config.load(model.folder / bundle.CONFIG) == wanted


def test_defaults_that_no_trial_beats_are_kept_and_it_is_said(data: Path, tmp_path: Path) -> None:
    """Rates so low that nothing is learned, and defaults that learn."""
    space = tmp_path / "space.yaml"
    space.write_text("train.learning_rate: {kind: log-float, low: 1e-9, high: 1e-8}\n", "utf-8")
    given = "train.learning_rate=0.05"
    found = tune(data, tmp_path / "tuned", given, space=space, trials=3)
    assert found.best == 0
    assert (found.kept, found.comparison) == ("defaults", None)
    assert verdict(found)[0] == (
        "No trial scored better than the defaults. The model has the defaults."
    )
    assert config.load(found.model / bundle.CONFIG).train.learning_rate == 0.05
    assert report.changed(found) == []


def test_a_winner_that_is_not_surely_better_is_not_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "LEAST_ROWS", 1000)
    found = tune(data, tmp_path / "tuned", trials=4)
    assert found.comparison is not None
    assert found.comparison.gain > 0
    assert found.kept == "defaults"
    own = found.defaults["train.learning_rate"]
    assert config.load(found.model / bundle.CONFIG).train.learning_rate == own
    assert "by so few rows" in verdict(found)[0]


def test_of_trials_that_score_alike_the_defaults_are_the_best_then_the_first() -> None:
    def tried(number: int, score: float, *, is_default: bool = False) -> Tried:
        return Tried(number, "finished", score, 1, 1.0, {}, is_default=is_default)

    def best(*trials: Tried, higher: bool = True) -> int:
        return run._best(run._Searched(Space(entries={}), {}, trials, {}), higher).number

    again = tried(3, 0.5, is_default=True)  # as where its first process died
    assert best(tried(1, 0.5), tried(2, 0.5), again) == 3
    assert best(tried(1, 0.4), tried(2, 0.6), tried(4, 0.6), again) == 2
    assert best(tried(1, 0.4), tried(2, 0.6), again, higher=False) == 1


def test_the_same_seed_finds_the_same(data: Path, tmp_path: Path) -> None:
    one, other = (
        quiet_numbers(tune(data, tmp_path / name / "tuned", trials=4)) for name in ("a", "b")
    )
    assert one == other


def test_tuning_and_comparing_on_the_same_rows_is_called_flattering(
    data: Path, tmp_path: Path
) -> None:
    found = tune(data, tmp_path / "tuned", whole=True, trials=2)
    assert found.rows.rule == ""
    assert found.rows.tuned_on == 80
    if found.comparison:
        assert found.comparison.n == 80
        assert "which flatters the winner" in verdict(found)[0]
    assert "Leave out --whole" in (tmp_path / "tuned" / "report.html").read_text("utf-8")


MADE: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "labels": (tiny.rows, "csv", ("modalities=[text]", *tiny.SETTINGS, "train.epochs=1")),
    "speech": (tiny.speech, "csv", (*tiny.HEARING, "train.epochs=1")),
    "texts": (tiny.articles, "csv", (*tiny.WRITING, "train.epochs=1")),
}


@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_answer_can_be_searched_for(tmp_path: Path, name: str) -> None:
    """With the default space of its task."""
    make, suffix, settings = MADE[name]
    made = make(tmp_path / "data")
    found = api.tune(
        made / f"train.{suffix}",
        valid=made / f"dev.{suffix}",
        out=tmp_path / "tuned",
        settings=(*settings, f"cache={tmp_path / 'cache'}"),
        trials=2,
        seeds=1,
    )
    task = TASKS[found.task]
    assert (found.metric, found.higher_is_better) == (task.goal, task.higher_is_better)
    assert len(found.trials) == 2
    assert found.trials[0].settings == found.defaults
    scores = [t.score for t in found.trials if t.state == "finished" and t.score is not None]
    best = found.trials[found.best].score
    assert best == (max(scores) if task.higher_is_better else min(scores))
    bundle.verify(found.model)


def test_numbers_can_be_searched_for_and_lower_is_better(tmp_path: Path) -> None:
    made = tiny.rows(tmp_path / "data", 24, numeric=True)
    found = api.tune(
        made / "train.csv",
        valid=made / "dev.csv",
        out=tmp_path / "tuned",
        settings=(
            *tiny.SETTINGS,
            f"task={NUMBERED}",
            "modalities=[text]",
            "train.epochs=1",
            f"cache={tmp_path / 'cache'}",
        ),
        trials=2,
        seeds=1,
    )
    assert not found.higher_is_better
    assert "train.label_smoothing" not in found.space
    finished = [t for t in found.trials if t.score is not None]
    assert found.trials[found.best].score == min(t.score for t in finished if t.score is not None)


def test_a_search_may_start_from_a_trained_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its encoder is what it is; trials begin where it ended, and so does what is kept."""
    settings = (*SETTINGS, f"cache={tmp_path / 'cache'}", "train.learning_rate=0.05")
    parent = api.train(
        data / "train.jsonl", valid=data / "valid.jsonl", out=tmp_path / "p", settings=settings
    )
    space = tmp_path / "space.yaml"
    space.write_text(SPACE + "text_encoder.width: {kind: choice, values: [8, 16]}\n", "utf-8")
    given: dict[str, Any] = {"space": space, "trials": 2, "start": [parent.folder]}
    found = tune(data, tmp_path / "tuned", **given)
    assert set(found.idle) == {"text_encoder.width"}
    assert "is left out: the text encoder is that of the model to start" in capsys.readouterr().err
    first = found.trials[0]
    assert first.score is not None
    assert first.score > 0.8, "in one epoch of a rate that teaches nothing"
    assert bundle.load(found.model).parents == (f"p {parent.info.seal[:12]}",)
    with pytest.raises(ConfigError, match="of other space, models to start from"):
        tune(data, tmp_path / "tuned", **given | {"start": []})


# No test data


IN_OPEN = 0x20


@contextmanager
def opened_in(folder: Path) -> Iterator[list[str]]:
    """The files of a folder that any process opens meanwhile, as Linux's inotify tells them."""
    libc, names = ctypes.CDLL(None, use_errno=True), list[str]()
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN) < 0:
        pytest.skip("this machine does not tell which files are opened")
    try:
        yield names
        events = b""
        try:
            while chunk := os.read(watch, 1 << 20):
                events += chunk
        except BlockingIOError:
            pass
        while events:
            size = int.from_bytes(events[12:16], sys.byteorder)
            names.append(events[16 : 16 + size].rstrip(b"\0").decode())
            events = events[16 + size :]
    finally:
        os.close(watch)


def test_no_test_row_and_no_test_picture_is_ever_opened(tmp_path: Path) -> None:
    """They lie beside those of training, in the same folder."""
    made = tiny.rows(tmp_path / "data", 24)
    rows = [row | {"id": f"test-{row['id']}"} for row in read_csv(made / "dev.csv")]
    for row in rows:
        for modality in ("image", "audio"):
            if row[modality]:
                os.link(made / row[modality], made / f"test-{row[modality]}")
                row[modality] = f"test-{row[modality]}"
    tiny.write(made / "test.csv", rows)
    settings = (*tiny.SETTINGS, "train.epochs=1", f"cache={tmp_path / 'cache'}")
    with opened_in(made) as names:
        api.tune(
            made / "train.csv",
            valid=made / "dev.csv",
            out=tmp_path / "tuned",
            settings=settings,
            trials=2,
            seeds=1,
        )
    assert {"train.csv", "dev.csv"} <= set(names), "it is told what is opened"
    assert any(name.startswith("dev-") for name in names)
    assert [name for name in names if name.startswith("test")] == []
    with opened_in(made) as names:
        (made / "test.csv").read_bytes()
    assert names == ["test.csv"]


def read_csv(path: Path) -> list[dict[str, str]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Killed, and shared


CHILD = """
import os, signal, sys
sys.path[:0] = {tests!r}
from searches import tune
from pathlib import Path
from moodal import bundle
from moodal.training import loop
from moodal.tuning import finalists, report, search, study

study.BEAT_SECONDS, study.SILENCE_SECONDS, study.POLL_SECONDS = 1, 2, 0.2
where, calls = {where!r}, {calls!r}

def deadly(plain):
    def call(*given, **named):
        global calls
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*given, **named)
    return call

for module, name in ((search, "try_out"), (bundle, "_put"), (finalists, "train"),
                     (finalists, "keep"), (report, "write"), (loop._Fit, "_judge")):
    if where == name:
        setattr(module, name, deadly(getattr(module, name)))
tune(Path({data!r}), Path({out!r}), trials={trials!r}, seeds={seeds!r})
"""


def child(
    data: Path, out: Path, where: str = "", calls: int = 0, *, n: int = 4, seeds: int = 1
) -> Any:
    code = CHILD.format(
        tests=TESTS, data=str(data), out=str(out), where=where, calls=calls, trials=n, seeds=seeds
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1)


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_no_broken_model_is_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a trial, in a finalist's training, as a finalist or the model is put in its place, before
    the report: one process after the other dies, and each goes on where the last one fell."""
    out = tmp_path / "tuned"
    deaths = (
        *(("_judge", 2), ("try_out", 2), ("train", 2), ("_put", 3)),
        *(("keep", 1), ("_put", 1), ("write", 1)),
    )
    for where, calls in deaths:
        # Two seeds, so that two are trained even where nothing beats the defaults: which trials are
        # lost with a process hangs on how soon the next one begins.
        died = child(data, out, where, calls, seeds=2)
        _, said = died.communicate(timeout=300)
        assert died.returncode == -signal.SIGKILL, (where, said.decode())
        for folder in (out / MODEL, *(out / RETRAINED).glob("*-seed-?")):
            if folder.exists():
                bundle.verify(folder)
        assert not (out / "report.html").exists()
    monkeypatch.setattr(trials, "SILENCE_SECONDS", 2)
    monkeypatch.setattr(trials, "BEAT_SECONDS", 1)
    found = tune(data, out, trials=4, seeds=2)
    assert len(found.trials) == 4
    assert sum(trial.is_default for trial in found.trials) == 1
    bundle.verify(found.model)
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_two_processes_share_the_trials_and_agree_on_what_they_found(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    both = [child(data, out, n=8) for _ in range(2)]
    said = [process.communicate(timeout=500)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    ran = [text.count("\ntrial ") + text.startswith("trial ") for text in said]
    assert sum(ran) == 8
    assert min(ran) >= 1
    numbers = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(numbers["trials"]) == 8
    assert sum(trial["is_default"] for trial in numbers["trials"]) == 1
    assert len({json.dumps(trial["settings"]) for trial in numbers["trials"]}) == 8
    bundle.verify(out / MODEL)


def test_the_defaults_are_tried_once_though_two_processes_ask_for_them_at_one_moment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(study: optuna.Study, defaults: Values | None) -> None:
        for _ in range(2):
            study.enqueue_trial(defaults or {}, user_attrs={trials.DEFAULTS: True})

    monkeypatch.setattr(trials, "_enqueue_defaults", twice)
    found = tune(data, tmp_path / "tuned", trials=3)
    assert [trial.is_default for trial in found.trials] == [True, False, False]


def test_more_trials_may_be_asked_for_later(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    first = tune(data, out, trials=2)
    before = (out / RETRAINED / "defaults-seed-0" / bundle.INFO).stat().st_mtime_ns
    more = tune(data, out, trials=4)
    assert more.trials[:2] == first.trials
    assert len(more.trials) == 4
    assert (out / RETRAINED / "defaults-seed-0" / bundle.INFO).stat().st_mtime_ns == before


# Bad input


def test_another_search_in_the_same_folder_is_refused(data: Path, tmp_path: Path) -> None:
    out, space = tmp_path / "tuned", tmp_path / "space.yaml"
    tune(data, out, trials=1)
    space.write_text(SPACE.replace("0.1}", "0.2}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"trials\.db: holds the trials of other space; use"):
        tune(data, out, trials=1, space=space)
    with pytest.raises(ConfigError, match="holds the trials of other settings"):
        tune(data, out, "train.epochs=2", trials=1)
    with pytest.raises(ConfigError, match=r"holds a search of another space \(space\.yaml\)"):
        tune(data, out, trials=1, space=space, storage=f"sqlite:///{tmp_path / 'other.db'}")
    other = vectors(tmp_path / "other", n=50)
    (other / "space.yaml").write_text(SPACE, encoding="utf-8")
    with pytest.raises(ConfigError, match="holds the trials of other data"):
        tune(other, out, trials=1)
    assert len(tune(data, out, trials=1).trials) == 1, "nothing was lost"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"time": "soon"}, ConfigError, "'soon' is no stretch of time; write it as 90s, 30m"),
        ({"trials": 0}, ConfigError, "trials=0: give 1 or more"),
        ({"space": "gone.yaml"}, ConfigError, r"gone\.yaml: cannot be read as YAML"),
        ({"storage": "trials.db"}, ConfigError, "is no address of a database"),
        ({"valid": "gone.jsonl"}, DataError, r"gone\.jsonl: there is no such file"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_left(
    data: Path, tmp_path: Path, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    out = tmp_path / "tuned"
    named = {"space": data / "space.yaml", "trials": 1, "valid": data / "valid.jsonl"} | given
    with pytest.raises(error, match=said):
        api.tune(data / "train.jsonl", out=out, settings=SETTINGS, **named)
    assert not out.exists()


def test_a_missing_package_is_named_with_the_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("no module", name="optuna")

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(CapacityError, match=r"the package optuna: pip install 'moodal\[tune\]'"):
        tune(data, tmp_path / "tuned")


def test_settings_that_fail_with_another_seed_leave_the_defaults(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = finalists.retrain

    def diverging(*given: Any, name: str) -> Any:
        if name != "defaults":
            raise ConfigError("the run has diverged")
        return plain(*given, name=name)

    monkeypatch.setattr(run.finalists, "retrain", diverging)
    found = tune(data, tmp_path / "tuned", trials=4)
    assert found.best != 0
    assert (found.kept, found.failure) == ("defaults", "the run has diverged")
    assert "could not be trained with every seed (the run has diverged)" in verdict(found)[0]


# The command


def test_the_command_tells_what_it_found(data: Path, tmp_path: Path) -> None:
    args = ["tune", str(data / "train.jsonl"), "--valid", str(data / "valid.jsonl")]
    args += ["--out", str(tmp_path / "tuned"), "--trials", "2", "--seeds", "1", "--time", "1h"]
    args += ["--space", str(data / "space.yaml"), "--set", f"cache={tmp_path / 'cache'}"]
    args += [part for s in SETTINGS for part in ("--set", s)]
    told = CliRunner().invoke(cli.cli, args)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("tuned: 2 trials (2 finished)\n")
    assert told.stdout.rstrip().endswith(f"model: {tmp_path / 'tuned' / 'model'}")
    assert "trial 0 (the defaults): macro_f1" in told.stderr
    as_json = CliRunner().invoke(cli.cli, [*args, "--json"])
    numbers = json.loads(as_json.stdout)
    assert numbers["verdict"]["en"] in told.stdout
    assert len(numbers["trials"]) == 2


def test_the_space_that_was_searched_can_be_given_again(found: Tuned) -> None:
    text = (found.model.parent / "space.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == found.space
