"""A model is replaced whole or not at all, whoever is killed when, and every one before it can come
back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodal import bundle
from moodal.errors import ConfigError, ModelError
from moodal.monitor import versions


def make(folder: Path, name: str) -> Path:
    """A bundle that nothing can be asked of, but whole."""
    info = bundle.load(bundle.PACKAGED).model_copy(update={"name": name})
    bundle.save(folder / name, info, {"head.onnx": name.encode() * 1000, "card.md": name.encode()})
    return folder / name


def seal_of(folder: Path) -> str:
    return bundle.load(folder).seal if folder.exists() else ""


def put(new: Path, over: Path) -> None:
    versions.install(new, over, instead_of=seal_of(over))


def standing(folder: Path) -> str:
    """The name of the model that stands there, every file of it checked."""
    return bundle.verify(folder).name


def names(folder: Path) -> list[str]:
    return [standing(path) for path in versions.kept(folder)]


@pytest.fixture(params=["exchange", "two renames"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on Linux, and as where the disk cannot swap two folders in one step."""
    if request.param != "exchange":
        monkeypatch.setattr(versions, "_exchange", lambda one, other: False)
    return str(request.param)


def test_a_promoted_model_stands_there_and_the_old_one_is_kept(
    tmp_path: Path, both_ways: str
) -> None:
    live = tmp_path / "live"
    for name in ("a", "b", "c"):
        put(make(tmp_path, name), live)
        assert standing(live) == name
        assert standing(tmp_path / name) == name, "it is a copy"
    assert names(live) == ["b", "a"]


def test_rollback_goes_one_back_and_two_back_and_a_promotion_follows_it(
    tmp_path: Path, both_ways: str
) -> None:
    live = tmp_path / "live"
    models = {name: make(tmp_path, name) for name in "abcd"}
    for name in "abc":
        put(models[name], live)
    for name, before in (("b", ["a"]), ("a", [])):
        away, info = versions.back(live)
        assert away == seal_of(models[chr(ord(name) + 1)])
        assert info.name == standing(live) == name
        assert names(live) == before
    with pytest.raises(ConfigError, match="no model is kept"):
        versions.back(live)
    assert standing(live) == "a"
    put(models["d"], live)
    assert (standing(live), names(live)) == ("d", ["a"])
    versions.back(live)
    assert standing(live) == "a"


def test_the_last_five_are_kept(tmp_path: Path) -> None:
    live = tmp_path / "live"
    for name in "abcdefgh":
        put(make(tmp_path, name), live)
    assert names(live) == list("gfedc")
    for _ in range(5):
        versions.back(live)
    assert standing(live) == "c"
    assert len(list((tmp_path / ".live.versions").glob("undone-*"))) == 5


def test_what_was_compared_is_what_is_replaced(tmp_path: Path) -> None:
    live, a, b = tmp_path / "live", make(tmp_path, "a"), make(tmp_path, "b")
    put(a, live)
    put(b, live)
    with pytest.raises(ModelError, match="another model came to stand there"):
        versions.install(a, live, instead_of=seal_of(a))
    with pytest.raises(ModelError, match="another model came to stand there"):
        versions.install(a, live, instead_of="")
    with pytest.raises(ModelError, match="this very model"):
        put(b, live)
    assert (standing(live), names(live)) == ("b", ["a"])


def test_of_two_promotions_at_once_one_is_refused(tmp_path: Path) -> None:
    live = tmp_path / "live"
    put(make(tmp_path, "a"), live)
    before, errors = seal_of(live), []

    def promote(name: str) -> None:
        try:
            versions.install(tmp_path / name, live, instead_of=before)
        except ModelError as error:
            errors.append(error)

    threads = [
        threading.Thread(target=promote, args=(make(tmp_path, n).name,)) for n in ("b", "c", "d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 2
    assert standing(live) in ("b", "c", "d")
    assert names(live) == ["a"]


def test_a_damaged_model_never_gets_there(tmp_path: Path) -> None:
    live = tmp_path / "live"
    put(make(tmp_path, "a"), live)
    (make(tmp_path, "b") / "head.onnx").write_bytes(b"torn")
    with pytest.raises(ModelError, match="has changed since it was saved"):
        put(tmp_path / "b", live)
    put(make(tmp_path, "c"), live)
    (kept,) = versions.kept(live)
    (kept / "head.onnx").write_bytes(b"torn")
    with pytest.raises(ModelError, match="or remove"):
        versions.back(live)
    assert standing(live) == "c"


def test_rollback_takes_a_damaged_model_away(tmp_path: Path, both_ways: str) -> None:
    live = tmp_path / "live"
    put(make(tmp_path, "a"), live)
    put(make(tmp_path, "b"), live)
    (live / bundle.INFO).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="is damaged"):
        versions.install(make(tmp_path, "c"), live, instead_of="")
    assert versions.back(live)[0] == ""
    assert standing(live) == "a"


def test_neither_the_packaged_model_nor_a_strangers_folder_is_replaced(tmp_path: Path) -> None:
    a, other = make(tmp_path, "a"), tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    for name in ("base", bundle.PACKAGED):
        with pytest.raises(ConfigError, match="comes with the package"):
            versions.install(a, Path(name), instead_of="")
    with pytest.raises(ConfigError, match="is not a model"):
        versions.install(a, other, instead_of="")
    assert (other / "cat.jpg").read_bytes() == b"cat"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    put(make(tmp_path, "a"), tmp_path / "disk" / "live")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "live")
    put(make(tmp_path, "b"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert standing(tmp_path / "disk" / "live") == "b"
    assert names(tmp_path / "link") == ["a"]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from moodal import bundle
from moodal.monitor import versions

step, way, verb, new, live = int(sys.argv[1]), *sys.argv[2:5], Path(sys.argv[5])
if way != "exchange":
    versions._exchange = lambda one, other: False
WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open", "shutil.rmtree")
left = step

def watch(event, arguments):
    global left
    if event in WRITES and str(live.parent) in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

seal = bundle.load(live).seal
while True:  # one process after the other, each killed one step later
    child = os.fork()
    if not child:
        sys.addaudithook(watch)
        if verb == "back":
            versions.back(live)
        else:
            versions.install(Path(new), live, instead_of=seal)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps({"killed": os.WIFSIGNALED(status), "status": status}), flush=True)
    sys.stdin.readline()
    step += 1
    left = step
"""


def killed_step_by_step(*arguments: str) -> Iterator[bool]:
    """Of one process after the other: whether it was killed. It goes on when asked for the next."""
    command = [sys.executable, "-c", KILLED, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            outcome = json.loads(line)
            assert outcome["killed"] or outcome["status"] == 0
            yield outcome["killed"]
            if not outcome["killed"]:
                process.kill()
                return
            process.stdin.write("\n")
            process.stdin.flush()


@pytest.mark.parametrize("way", ["exchange", "two renames"])
@pytest.mark.parametrize("verb", ["install", "back"])
def test_a_process_killed_at_any_step_leaves_the_old_model_or_the_new(
    tmp_path: Path, way: str, verb: str
) -> None:
    """A real SIGKILL before each thing that the process does to a disk."""
    live, new = tmp_path / "live", make(tmp_path, "g")
    for name in "abcdef":
        put(make(tmp_path, name), live)
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path, whole)
    old, expected = "f", "g" if verb == "install" else "e"
    before = {"f": "edcba", "g": "fedcba", "e": "dcba"}
    seen, empty = [], 0
    for killed in killed_step_by_step("0", way, verb, str(new), str(live)):
        if not killed:
            assert standing(live) == expected
            break
        empty += not live.exists()
        versions.mend(live)
        seen.append(standing(live))
        assert "".join(names(live)) in (before[seen[-1]], before[seen[-1]][: versions.KEPT])
        left = {path.name for path in (tmp_path / ".live.versions").iterdir()}
        assert not left & {versions.NEW, versions.LEAVING, versions.GONE, versions.INTENT}
        for folder in (".live.versions", "live"):
            shutil.rmtree(tmp_path / folder)
            shutil.copytree(whole / folder, tmp_path / folder)
    assert {old, expected} == set(seen), "killed before the swap, and after it"
    assert bool(empty) == (way != "exchange"), "a swap in one step never leaves the place empty"
