"""The whole loop once, through a real server: what users correct becomes the model that answers."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from moodal import api, bundle
from moodal.cli import cli
from moodal.config import Columns
from moodal.data import manifest
from moodal.monitor import gate
from moodal.store import journal
from moodal.store.inputs import Inputs
from moodal.store.journal import Journal
from moodal.types import MODALITIES, Record
from tests import tiny
from tests.serve.conftest import Running, serving, settings_of
from tests.store import samples

TRAIN = ("train.epochs=4", "train.batch_size=8", "train.learning_rate=0.02")
SECONDS = 60.0
"""To wait for what takes two at most."""


def moodal(*arguments: object) -> Any:
    """A command, its JSON read; the exit code under "exit"."""
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert done.exit_code in (0, 1), done.output
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return {**json.loads(done.stdout), "exit": done.exit_code}


def records(file: Path) -> list[Record]:
    return [record for record in manifest.read(file) if isinstance(record, Record)]


def sent(record: Record) -> dict[str, str | bytes]:
    """As a form's fields."""
    given = {m: getattr(record, m) for m in record.modalities}
    return {m: v.read_bytes() if isinstance(v, Path) else v for m, v in given.items()}


class Caller(threading.Thread):
    """Asks without a pause, and notes what came back."""

    def __init__(self, server: Running) -> None:
        super().__init__()
        self.server, self.stopped = server, threading.Event()
        self.statuses: set[int] = set()
        self.versions: list[str] = []
        self.changed = threading.Condition()

    def run(self) -> None:
        while not self.stopped.is_set():
            reply = self.server.post("/v1/predict", {"text": "a lovely day"})
            self.statuses.add(reply.status)
            version = reply.json().get("model_version", "")
            with self.changed:
                if not self.versions or self.versions[-1] != version:
                    self.versions.append(version)
                    self.changed.notify_all()

    def wait_for(self, version: str) -> None:
        with self.changed:
            there = self.changed.wait_for(lambda: self.versions[-1:] == [version], SECONDS)
        assert there, f"{version} does not answer, but {self.versions}"


@contextmanager
def asking(server: Running) -> Iterator[Caller]:
    caller = Caller(server)
    caller.start()
    try:
        yield caller
    finally:
        caller.stopped.set()
        caller.join()


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    """A model that has learned next to nothing, from 12 rows."""
    data = tiny.rows(tmp_path / "old", 12, seed=9)
    settings = (*tiny.SETTINGS, "train.epochs=1", "train.learning_rate=0.0001")
    return api.train(
        data / "train.csv",
        valid=data / "dev.csv",
        out=tmp_path / "poor",
        settings=(*settings, f"cache={tmp_path}/cache"),
    ).folder


def correct(server: Running, asked: list[Record]) -> list[str]:
    """Users dispute what is wrong, and a reviewer labels all that the queue shows."""
    truth: dict[str, str] = {}
    for record in asked:
        answer = server.send("/v1/predict", sent(record)).json()
        id = answer["prediction_id"]
        truth[id] = record.target or ""
        if answer["label"] != record.target:
            said = {"prediction_id": id, "label": record.target, "comment": "no"}
            assert server.post("/v1/feedback", said).status == 200
    server.service.spool.flush(SECONDS)
    queue = server.get("/v1/review?order=disagreeing&limit=200").json()["rows"]
    assert {row["id"] for row in queue} == set(truth)
    for row in queue:
        said = {"prediction_id": row["id"], "label": truth[row["id"]], "reviewed": True}
        assert server.post("/v1/feedback", said).status == 200
    assert server.get("/v1/review").json()["rows"] == []
    return list(truth)


@dataclass(frozen=True)
class Home:
    """Where things are."""

    folder: Path

    @property
    def store(self) -> tuple[str, str]:
        return "--store", f"sqlite:///{self.folder}/journal.sqlite"

    @property
    def kept(self) -> tuple[str, Path]:
        return "--inputs", self.folder / "kept"

    def promote(self, new: Path) -> Any:
        test = self.folder / "test" / "train.csv"
        return moodal("promote", new, "--over", self.folder / "live", "--test", test, *self.store)


def exported(home: Home, asked: list[Record], ids: list[str]) -> None:
    """All that was asked, as rows that anyone may look at."""
    out = home.folder / "new.csv"
    done = moodal("feedback", "export", "--out", out, *home.store, *home.kept)
    assert (done["written"], done["n_left_out"]) == (len(asked), 0)
    assert sorted(record.id for record in records(out)) == sorted(ids)
    assert sorted(map(content, records(out))) == sorted(map(content, asked))


def content(record: Record) -> tuple[str, ...]:
    """What a record holds, wherever its media lie."""
    whole = [getattr(record, m) for m in MODALITIES]
    parts = [v.read_bytes().hex() if isinstance(v, Path) else v or "" for v in whole]
    return (record.target or "", *parts)


def retrained(home: Home, n: int) -> Path:
    """A model that learned from the old rows and n corrections."""
    new, old = home.folder / "new", home.folder / "old"
    settings = [x for s in (*TRAIN, f"cache={home.folder}/cache") for x in ("--set", s)]
    rows = ("--train", old / "train.csv", "--valid", old / "dev.csv")
    where = ("--from", home.folder / "live", "--out", new)
    done = moodal("retrain", *where, *rows, *home.store, *home.kept, *settings)
    assert (done["retrained"]["old"], done["retrained"]["corrections"]) == (12, n)
    assert done["train"]["rows"] == 12 + n
    return new


def test_from_a_correction_to_a_better_model_and_back(tmp_path: Path, poor: Path) -> None:
    home, live = Home(tmp_path), tmp_path / "live"
    tiny.rows(tmp_path / "test", 90, seed=5)
    asked = records(tiny.rows(tmp_path / "asked", 60, seed=7) / "train.csv")
    assert home.promote(poor)["passed"], "the first model"
    was = bundle.version(bundle.load(live))
    kept = tmp_path / "kept"
    settings = settings_of(tmp_path, model=live, keep_inputs=kept, reload_seconds=0.05)
    with serving(settings) as server:
        exported(home, asked, correct(server, asked))
        new = retrained(home, len(asked))
        better = bundle.version(bundle.load(new))
        assert bundle.load(new).parents == (f"poor {was}",)
        with asking(server) as caller:
            caller.wait_for(was)
            done = home.promote(new)
            assert (done["passed"], done["exit"]) == (True, 0)
            caller.wait_for(better)
            done = moodal("rollback", live, *home.store)
            assert (done["version"], done["taken_away"]) == (was, better)
            caller.wait_for(was)
        assert caller.statuses == {200}, "no request was dropped"
        assert caller.versions == [was, better, was]
    assert home.promote(new)["passed"], "after a rollback, too"
    done = home.promote(poor)
    assert (done["passed"], done["exit"]) == (False, 1)
    assert bundle.version(bundle.verify(live)) == better
    with journal.open(home.store[1]) as book:
        events = [(e.change, e.model) for e in reversed(book.events()) if e.change != "served"]
    promoted, back = ("promoted", better), ("rolled_back", was)
    assert events == [("promoted", was), promoted, back, promoted, ("refused", was)]


@pytest.fixture
def asked_once(tmp_path: Path) -> Iterator[Journal]:
    """A journal with one correction of a text."""
    with journal.open(f"sqlite:///{tmp_path}/journal.sqlite") as book:
        kept = Inputs(tmp_path / "kept", 30).keep(Record("1", text="so so"))
        book.add([samples.served(1, label="bad", inputs=kept)])
        book.judge(samples.judgement(2, 1, label="good", by="reviewer"))
        yield book


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What training was asked for; a copy of the packaged model is all that comes of it."""
    calls: list[dict[str, Any]] = []

    def train(file: Path, *, out: Path, **given: Any) -> None:
        calls.append({"rows": file.read_text(encoding="utf-8").splitlines(), **given})
        shutil.copytree(bundle.PACKAGED, out, dirs_exist_ok=True)

    monkeypatch.setattr(api, "train", train)
    return calls


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A model that says bad or good of texts, and calls them reviews."""
    columns = Columns(text="review", label="stars", group="who")
    update = {"labels": ("bad", "good"), "columns": columns, "kinds": {"text": "tokens"}}
    info = bundle.load(bundle.PACKAGED)
    config = bundle.read(bundle.PACKAGED, info, bundle.CONFIG)
    bundle.save(tmp_path / "live", info.model_copy(update=update), {bundle.CONFIG: config})
    return tmp_path / "live"


def test_what_is_not_said_is_as_the_old_model_has_it(
    tmp_path: Path, asked_once: Journal, trained: list[dict[str, Any]], binary: Path
) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new"
    old.write_text("review,stars\nfine,good\n", encoding="utf-8")
    kept = {"inputs": tmp_path / "kept", "settings": ("train.epochs=2",)}
    api.retrain(old, journal=asked_once, start=binary, out=new, **kept)
    (call,) = trained
    assert [json.loads(row) for row in call["rows"]] == [
        {"id": "1", "review": "fine", "stars": "good"},
        {"id": f"{1:032x}", "review": "so so", "stars": "good", "lang": "en"},
    ]
    task = bundle.load(binary).task
    named = ('columns.text="review"', 'columns.label="stars"')
    assert call["settings"] == (f"task={task}", *named, "train.epochs=2")
    assert (call["start"], call["resume"]) == ([binary], False)
    assert bundle.verify(new).data["retrained"]["corrections"] == 1


def test_a_run_that_goes_on_learns_from_the_same_rows(
    tmp_path: Path, asked_once: Journal, trained: list[dict[str, Any]], binary: Path
) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new"
    old.write_text("review,stars\nfine,good\n", encoding="utf-8")
    given = {"journal": asked_once, "start": binary, "out": new, "inputs": tmp_path / "kept"}
    api.retrain(old, **given)
    asked_once.judge(samples.judgement(3, 1, label="bad", by="reviewer"))
    api.retrain(old, **given, resume=True)
    first, second = trained
    assert second["rows"] == first["rows"]
    assert second["resume"]
    api.retrain(old, **given)
    assert trained[2]["rows"] != first["rows"]


def test_the_commands_speak_to_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    decision = gate.Decision("wer", False, 0.9, 10, warnings=("doubtful",))
    for reasons, code, last in (
        ((), 0, "promoted: live holds new now; moodal rollback live takes it back"),
        (("worse",), 1, "refused: worse"),
    ):
        said = replace(decision, reasons=reasons)
        monkeypatch.setattr(api, "promote", lambda *_, said=said, **__: said)
        done = CliRunner().invoke(cli, ["promote", "new", "--over", "live", "--test", "test.csv"])
        assert done.exit_code == code
        assert done.output.splitlines() == ["warning: doubtful", last]
