"""Another model in the same folder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moodal import bundle
from moodal.errors import ModelError
from moodal.runtime.predict import Model
from moodal.serve import loaded
from moodal.serve.reload import Reloader
from tests.serve.conftest import Running, until
from tests.tiny import train_once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny model."""
    return Path(shutil.copytree(train_once(), tmp_path / "model"))


def resave(folder: Path, **changes: Any) -> str:
    """Another version of the same model; its name."""
    info = bundle.load(folder)
    files = {name: bundle.read(folder, info, name) for name in info.files}
    return bundle.version(bundle.save(folder, info.model_copy(update=changes), files))


def watching(start: Callable[..., Running], folder: Path) -> tuple[Running, Reloader]:
    """A service that only looks when it is told to, and writes down what happens."""
    running = start(model=folder, reload_seconds=3600)
    until(lambda: running.service.watching)
    until(running.service.journal.events)
    return running, Reloader(running.service)


def test_a_new_model_is_taken_up(start: Callable[..., Running], folder: Path) -> None:
    running, reloader = watching(start, folder)
    assert reloader.look() is False
    version = resave(folder, threshold=0.999)
    assert reloader.look() is True
    answer = running.post("/v1/predict", {"text": "good"}).json()
    assert (answer["model_version"], answer["abstain"]) == (version, True)
    assert running.get("/v1/model").json()["version"] == version
    metrics = running.get("/metrics").body.decode()
    assert f'version="{version}"}} 1.0' in metrics
    assert 'moodal_reloads_total{result="done"} 1.0' in metrics
    assert (
        next(e.model for e in running.service.journal.events() if e.change == "served") == version
    )
    assert reloader.look() is False


def test_a_model_that_came_while_the_service_began_is_taken_up(
    start: Callable[..., Running], folder: Path
) -> None:
    running = start(model=folder, reload_seconds=3600)
    version = resave(folder, threshold=0.999)
    assert Reloader(running.service).look() is True
    assert running.service.version == version


def test_it_is_taken_up_by_itself(start: Callable[..., Running], folder: Path) -> None:
    running = start(model=folder, reload_seconds=0.01)
    version = resave(folder, threshold=0.999)
    until(lambda: running.service.version == version)


@pytest.mark.parametrize("damage", ["info", "graph", "labels"])
def test_a_broken_model_is_refused_and_the_old_one_goes_on(
    start: Callable[..., Running], folder: Path, damage: str
) -> None:
    running, reloader = watching(start, folder)
    version = running.service.version
    if damage == "info":
        (folder / bundle.INFO).write_text("{}")
    elif damage == "graph":
        resave(folder, threshold=0.999)
        (folder / bundle.HEAD).write_bytes(b"nonsense")
    else:  # it loads, and cannot answer
        resave(folder, labels=("bad", "fair"))
    assert reloader.look() is False
    answer = running.post("/v1/predict", {"text": "good"}).json()
    assert answer["model_version"] == version
    assert 'moodal_reloads_total{result="refused"} 1.0' in running.get("/metrics").body.decode()
    event = running.service.journal.events()[0]
    assert (event.change, event.model) == ("reload_failed", version)
    assert str(folder) in event.numbers["error"]
    assert reloader.look() is False  # and is not tried again
    assert len(running.service.journal.events()) == 2
    good = resave_from(train_once(), folder)
    assert reloader.look() is True
    assert running.service.version == good


def resave_from(whole: Path, folder: Path) -> str:
    info = bundle.load(whole)
    files = {name: bundle.read(whole, info, name) for name in info.files}
    shutil.rmtree(folder)
    return bundle.version(bundle.save(folder, info.model_copy(update={"threshold": 0.5}), files))


def test_a_folder_that_is_being_replaced_is_looked_at_again(
    start: Callable[..., Running], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, reloader = watching(start, folder)
    (folder / bundle.INFO).write_text("half of it")
    load = running.service.load

    def meanwhile() -> Any:
        try:
            return load()
        finally:
            resave_from(train_once(), folder)

    monkeypatch.setattr(running.service, "load", meanwhile)
    assert reloader.look() is False
    assert len(running.service.journal.events()) == 1  # nothing was refused
    monkeypatch.undo()
    assert reloader.look() is True


def test_a_folder_that_is_gone_is_waited_for(start: Callable[..., Running], folder: Path) -> None:
    running, reloader = watching(start, folder)
    folder.rename(folder.with_name("away"))
    assert reloader.look() is False
    assert running.post("/v1/predict", {"text": "good"}).status == 200
    assert len(running.service.journal.events()) == 1


def test_no_request_is_lost_while_models_change(
    start: Callable[..., Running], folder: Path
) -> None:
    running, reloader = watching(start, folder)
    replies: list[tuple[int, str]] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            reply = running.send("/v1/predict", {"text": "good"})
            replies.append((reply.status, reply.json()["model_version"]))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    versions = [running.service.version]
    for threshold in (0.6, 0.7, 0.8):
        versions.append(resave(folder, threshold=threshold))
        assert reloader.look()
        until(lambda: replies and replies[-1][1] == versions[-1])
    enough.set()
    for client in clients:
        client.join(60)
    assert {status for status, _ in replies} == {200}
    assert {version for _, version in replies} == set(versions)


# ---- proof -------------------------------------------------------------------------------------


def test_a_model_that_answers_no_numbers_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(folder)
    loaded.prove(model)
    answer = replace(model.predict(text="good"), confidence=float("nan"))
    monkeypatch.setattr(model, "tell", lambda outputs: answer)
    with pytest.raises(ModelError, match="which are no numbers"):
        loaded.prove(model)


def test_what_is_loaded_is_whole(folder: Path) -> None:
    found = loaded.load(folder, None, limit_seconds=120)
    assert found.version == bundle.version(bundle.load(folder))
    shutil.rmtree(folder)
    assert found.model.predict(text="good").label is not None
