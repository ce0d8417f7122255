"""A model takes another's place by the gate alone, and the journal says why; with real models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from moodal import api, bundle
from moodal.config import Columns
from moodal.errors import CapacityError, ModelError
from moodal.monitor import lessons, promotion, versions
from moodal.monitor.gate import Decision
from moodal.monitor.promotion import Trial
from moodal.store.journal import Journal
from tests import tiny


def promote(new: Path, over: Path, test: Trial, journal: Journal | None = None) -> Decision:
    return promotion.promote(new, over, test, journal=journal, resamples=40)


@pytest.fixture(scope="module")
def good() -> Path:
    return tiny.train_once()


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same kind that has learned next to nothing."""
    home = tmp_path_factory.mktemp("poor")
    data = tiny.rows(home / "data", 12, seed=9)
    settings = (*tiny.SETTINGS, "train.epochs=1", "train.learning_rate=0.0001", f"cache={home}/c")
    return api.train(
        data / "train.csv", valid=data / "dev.csv", out=home / "poor", settings=settings
    ).folder


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    home = tiny.rows(tmp_path_factory.mktemp("test"), 90, seed=5)
    return Trial(home / "train.csv", Columns())


@pytest.fixture
def live(tmp_path: Path, poor: Path) -> Path:
    return shutil.copytree(poor, tmp_path / "live")


def test_the_better_model_takes_the_place_and_rollback_gives_it_back(
    live: Path, good: Path, poor: Path, test: Trial, book: Journal
) -> None:
    done = promote(good, live, test, journal=book)
    assert done.passed
    assert done.warnings == ()
    assert bundle.verify(live) == bundle.load(good)
    away, info = promotion.rollback(live, journal=book)
    assert away == bundle.version(bundle.load(good))
    assert info == bundle.verify(live) == bundle.load(poor)
    rolled, promoted = book.events()
    assert (promoted.change, rolled.change) == ("promoted", "rolled_back")
    assert promoted.model == away
    assert promoted.numbers["instead_of"] == bundle.version(info)
    assert promoted.numbers["verdicts"][0]["n"] == 90
    assert (rolled.model, rolled.numbers["instead_of"]) == (bundle.version(info), away)


def test_the_worse_model_is_refused_and_nothing_changes(
    live: Path, good: Path, poor: Path, test: Trial, book: Journal
) -> None:
    promote(good, live, test)
    before = bundle.load(live)
    done = promote(poor, live, test, journal=book)
    assert not done.passed
    assert bundle.verify(live) == before
    (event,) = book.events()
    assert event.change == "refused"
    assert event.numbers["reasons"] == list(done.reasons)
    json.dumps(event.numbers)


def test_the_first_model_is_put_there_and_not_compared(
    tmp_path: Path, good: Path, test: Trial, book: Journal
) -> None:
    live = tmp_path / "models" / "live"
    done = promote(good, live, test, journal=book)
    assert (done.passed, done.verdicts) == (True, ())
    assert bundle.verify(live) == bundle.load(good)
    assert book.events()[0].change == "promoted"


def test_a_damaged_model_is_refused_before_any_work(
    live: Path, good: Path, test: Trial, tmp_path: Path
) -> None:
    torn = shutil.copytree(good, tmp_path / "torn")
    (torn / bundle.WEIGHTS).write_bytes(b"torn")
    with pytest.raises(ModelError, match="has changed since it was saved"):
        promote(torn, live, Trial(Path("nowhere.csv"), Columns()))


def test_what_was_left_half_done_is_put_right_first(
    live: Path, good: Path, test: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two renames: no model stands there, and the old one is not forgotten."""
    monkeypatch.setattr(versions, "_exchange", lambda one, other: False)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target == live:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(good, live, test)
    assert not live.exists()
    assert promote(good, live, test).verdicts, "compared with the one before"
    assert len(versions.kept(live)) == 1


def test_a_test_file_that_was_learned_from_is_called_so(
    live: Path, good: Path, test: Trial, tmp_path: Path
) -> None:
    own = Trial(good.parent / "data" / "dev.csv", Columns())
    done = promote(good, live, own)
    assert "dev.csv is the very file that the new model was chosen by" in done.warnings[0]
    new = shutil.copytree(good, tmp_path / "new")
    data = lessons.folder_of(new)
    shutil.copytree(test.path.parent, data)
    rows = test.path.read_text(encoding="utf-8").splitlines()[1:4]
    values = [dict(zip(tiny.COLUMNS, row.split(","), strict=True)) for row in rows]
    lines = "".join(json.dumps({k: v for k, v in row.items() if v}) + "\n" for row in values)
    (data / lessons.FILE).write_text(lines, encoding="utf-8")
    assert promote(new, live, test).warnings == (), "nobody says that it learned from these"
    (data / lessons.COUNTS).write_text('{"old": 3}', encoding="utf-8")
    assert lessons.sign(new).data[lessons.RETRAINED] == {"old": 3}
    done = promote(new, live, test)
    assert "3 rows of train.csv are among those that the new model learned from" in done.warnings[0]


def test_a_journal_that_is_away_is_named_once_the_deed_is_done(
    live: Path, good: Path, test: Trial, book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(event: object) -> None:
        raise CapacityError("no route to it")

    monkeypatch.setattr(book, "record", away)
    with pytest.raises(CapacityError, match="the model is promoted, but the journal"):
        promote(good, live, test, journal=book)
    assert bundle.verify(live) == bundle.load(good)
