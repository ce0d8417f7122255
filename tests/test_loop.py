"""The whole loop once, through a real server: what users correct becomes the model that answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from moodal import api, bundle
from moodal.cli import cli
from moodal.data import manifest
from moodal.store import journal
from moodal.types import MODALITIES, Record
from tests import tiny
from tests.serve.conftest import Running, serving, settings_of

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
