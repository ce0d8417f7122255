"""A model is a folder: whole or not there, and never quietly another than the one saved."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import train_once

from moodal import bundle
from moodal.bundle import Info
from moodal.errors import CapacityError, ConfigError, ModelError
from moodal.runtime.predict import Model

FILES = (
    "audio.onnx",
    "bundle.json",
    "card.md",
    "config.yaml",
    "head.onnx",
    "image.onnx",
    "reference.json",
    "text.onnx",
    "vocabulary.txt",
    "weights.safetensors",
)


@pytest.fixture(scope="module")
def info() -> Info:
    return bundle.load(train_once())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(train_once(), tmp_path / "copy")


def test_a_bundle_holds_what_the_architecture_says() -> None:
    assert names(train_once()) == sorted(FILES)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, info: Info) -> None:
    def write(path: Path) -> None:
        path.write_text("二\n", encoding="utf-8")

    saved = bundle.save(tmp_path / "a" / "model", info, {"one.txt": b"1", "two.txt": write})
    assert bundle.load(tmp_path / "a" / "model") == saved
    assert saved.files == {
        "one.txt": hashlib.sha256(b"1").hexdigest(),
        "two.txt": hashlib.sha256("二\n".encode()).hexdigest(),
    }
    assert saved.model_copy(update={"files": info.files, "seal": info.seal}) == info
    assert bundle.read(tmp_path / "a" / "model", saved, "two.txt").decode() == "二\n"
    assert bundle.verify(tmp_path / "a" / "model") == saved


def test_saving_leaves_the_bundle_alone_in_its_folder(tmp_path: Path, info: Info) -> None:
    for _ in range(2):
        bundle.save(tmp_path / "model", info, {"one.txt": b"1"})
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["bundle.json", "one.txt"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_changed_byte_in_any_file_is_found_and_named(copy: Path, name: str, place: float) -> None:
    content = bytearray((copy / name).read_bytes())
    at = round(place * (len(content) - 1))
    content[at] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        bundle.verify(copy)
    assert str(caught.value).startswith(str(copy / name))
    assert "copy the model again" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        bundle.verify(copy)


def test_a_model_notices_a_changed_graph_before_it_answers(copy: Path) -> None:
    with (copy / "text.onnx").open("ab") as file:
        file.write(b"\0")
    model = Model(copy)
    with pytest.raises(ModelError, match=r"text\.onnx: has changed since it was saved \(sha256"):
        model.predict(text="good")


@pytest.mark.parametrize("key", ["threshold", "prior", "labels", "temperatures"])
def test_a_changed_value_in_bundle_json_is_noticed(copy: Path, key: str) -> None:
    values = json.loads((copy / "bundle.json").read_bytes())
    changed = {"threshold": 0.5, "prior": [0.5, 0.25, 0.25], "temperatures": {}}
    values[key] = changed.get(key, ["good", "fair", "bad"])
    (copy / "bundle.json").write_text(json.dumps(values, indent=1, ensure_ascii=False))
    with pytest.raises(ModelError, match=r"bundle\.json: has changed since it was saved"):
        Model(copy)


@pytest.mark.parametrize("number", [0, bundle.FORMAT + 1, "1", None])
def test_an_unknown_format_is_named_with_the_one_that_is_read(copy: Path, number: object) -> None:
    values = json.loads((copy / "bundle.json").read_bytes()) | {"format": number}
    (copy / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(ModelError) as caught:
        Model(copy)
    said = str(caught.value)
    assert (
        f"bundle.json: has format {number!r}, this version of moodal reads {bundle.FORMAT}" in said
    )
    assert "use the version that wrote it, or train again" in said


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"format": 1}'])
def test_a_damaged_bundle_json_says_so_in_a_line(copy: Path, content: bytes) -> None:
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"bundle\.json: is damaged \(.+\); copy the model") as e:
        Model(copy)
    assert "\n" not in str(e.value)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match=r"is not a model, it has no bundle\.json"):
            Model(folder)


def test_size_is_the_sum_of_the_files(tmp_path: Path, info: Info) -> None:
    bundle.save(tmp_path / "model", info, {"one": bytes(1000)})
    size = (tmp_path / "model" / "bundle.json").stat().st_size
    assert bundle.size_bytes(tmp_path / "model") == 1000 + size


# ---- where it may be written -------------------------------------------------------------------


def test_what_is_not_a_bundle_is_never_written_over(tmp_path: Path, info: Info) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "wedding.jpg").write_bytes(b"once")
    for target in (folder, folder / "wedding.jpg"):
        with pytest.raises(ConfigError, match="exists and is not a model; name a new folder"):
            bundle.save(target, info, {})
    with pytest.raises(ConfigError, match=r"wedding\.jpg is a file; name a new folder"):
        bundle.save(folder / "wedding.jpg" / "model", info, {})
    assert (folder / "wedding.jpg").read_bytes() == b"once"
    assert names(tmp_path) == ["photos"]


def test_an_empty_folder_may_be_filled(tmp_path: Path, info: Info) -> None:
    (tmp_path / "model").mkdir()
    bundle.save(tmp_path / "model", info, {"one": b"1"})
    assert bundle.verify(tmp_path / "model")


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path, info: Info) -> None:
    bundle.save(tmp_path / "v1", info, {"one": b"1"})
    (tmp_path / "current").symlink_to("v1")
    bundle.save(tmp_path / "current", info, {"one": b"2"})
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "v1" / "one").read_bytes() == b"2"
    assert names(tmp_path) == ["current", "v1"]


def test_the_old_bundle_stands_until_the_new_one_is_whole(tmp_path: Path, info: Info) -> None:
    folder = tmp_path / "model"
    bundle.save(folder, info, {"one": b"old"})
    seen = []

    def write(path: Path) -> None:
        path.write_bytes(b"new")
        seen.append(bundle.read(folder, bundle.verify(folder), "one"))

    bundle.save(folder, info, {"one": write})
    assert seen == [b"old"]
    assert bundle.read(folder, bundle.verify(folder), "one") == b"new"


def test_a_rename_that_fails_puts_the_old_bundle_back(tmp_path: Path, info: Info) -> None:
    folder = tmp_path / "model"
    bundle.save(folder, info, {"one": b"old"})
    with pytest.raises(FileNotFoundError):
        bundle._put(tmp_path / "was never written", folder)
    assert bundle.verify(folder)
    assert names(tmp_path) == ["model"]


def test_what_a_killed_save_left_is_gone_once_a_new_bundle_stands(
    tmp_path: Path, info: Info
) -> None:
    """Killed between the two renames: the old bundle is kept aside, and none stands."""
    bundle.save(tmp_path / ".model.old", info, {"one": b"old"})
    bundle.save(tmp_path / "model", info, {"one": b"new"})
    assert names(tmp_path) == ["model"]


# ---- when writing fails ------------------------------------------------------------------------


def full(path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def interrupted(path: Path) -> None:
    path.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("write", "error"), [(full, CapacityError), (interrupted, KeyboardInterrupt)]
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_failed_save_leaves_nothing_behind(
    tmp_path: Path,
    info: Info,
    write: Callable[[Path], None],
    error: type[BaseException],
    replaced: bool,
) -> None:
    folder = tmp_path / "model"
    if replaced:
        bundle.save(folder, info, {"one": b"old"})
    before = names(tmp_path)
    with pytest.raises(error) as caught:
        bundle.save(folder, info, {"one": b"new", "two": write})
    assert names(tmp_path) == before
    if replaced:
        assert bundle.read(folder, bundle.verify(folder), "one") == b"old"
    if error is CapacityError:
        assert str(folder) in str(caught.value)
        assert "No space left on device" in str(caught.value)
        assert "free some space or name another place" in str(caught.value)


def test_a_name_too_long_for_the_disk_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="File name too long"):
        bundle.check_target(tmp_path / ("m" * 300))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_a_disk_answers_becomes_a_sentence(tmp_path: Path, number: int) -> None:
    reason = os.strerror(number)
    with pytest.raises(CapacityError) as caught, bundle.writing(tmp_path / "out"):
        raise OSError(number, reason)
    assert str(caught.value).startswith(f"{tmp_path / 'out'}: cannot be written ({reason})")


def test_only_what_a_disk_answers_becomes_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), bundle.writing(tmp_path):
        raise BrokenPipeError(errno.EPIPE, "a reader went away")
