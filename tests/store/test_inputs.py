"""Inputs are kept by content, found by hash alone, and forgotten in time."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from moodal.errors import CapacityError, DataError
from moodal.store.inputs import Inputs
from moodal.types import Record

NOW = 1_700_000_000.0
DAY = 86_400.0

PNG = b"\x89PNG\r\n\x1a\n and more"
WAV = b"RIFF\x00\x00\x00\x00WAVE and more"


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path / "inputs", 30)


def files(inputs: Inputs) -> list[str]:
    return sorted(p.relative_to(inputs.folder).as_posix() for p in inputs.folder.rglob("*.*"))


def test_what_was_kept_is_read_again(inputs: Inputs) -> None:
    kept = inputs.keep(Record("a", text="很好 👍", image=PNG, audio=WAV))
    assert list(kept) == ["text", "image", "audio"]
    assert inputs.read(kept["text"]) == ("很好 👍".encode(), "text/plain; charset=utf-8")
    assert inputs.read(kept["image"]) == (PNG, "image/png")
    assert inputs.read(kept["audio"]) == (WAV, "audio/wav")


def test_a_name_is_the_hash_of_the_content(inputs: Inputs) -> None:
    kept = inputs.keep(Record("a", text="good"))
    sha256 = hashlib.sha256(b"good").hexdigest()
    assert kept == {"text": sha256}
    assert files(inputs) == [f"{sha256[:2]}/{sha256[2:4]}/{sha256}.txt"]


def test_equal_inputs_are_kept_once(inputs: Inputs) -> None:
    assert inputs.keep(Record("a", image=PNG)) == inputs.keep(Record("b", image=PNG))
    assert len(files(inputs)) == 1


def test_a_path_is_kept_as_what_it_holds(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert inputs.keep(Record("a", image=tmp_path / "a.png")) == inputs.keep(Record("b", image=PNG))


def test_features_are_not_kept(inputs: Inputs) -> None:
    assert inputs.keep(Record("a", text=np.zeros(3, np.float32))) == {}
    assert files(inputs) == []


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM\0\0", "image/bmp"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"\x1aE\xdf\xa3", "audio/webm"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"<html><script>alert(1)</script>", "application/octet-stream"),
        (b"<svg onload=alert(1)>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_a_file_is_called_what_its_bytes_say(
    inputs: Inputs, content: bytes, media_type: str
) -> None:
    kept = inputs.keep(Record("a", image=content))
    assert inputs.read(kept["image"]) == (content, media_type)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "../" * 21 + "a",
        "a" * 64 + "\n",
        "\0" + "a" * 63,
        "/etc/passwd",
        "*" * 64,
        "a" * 10_000_000,
    ],
)
def test_what_is_no_hash_is_refused(inputs: Inputs, name: str) -> None:
    for ask in (inputs.read, inputs.path):
        with pytest.raises(DataError, match="give a SHA-256") as caught:
            ask(name)
        assert len(str(caught.value)) < 250


def test_what_is_not_kept_is_not_found(inputs: Inputs) -> None:
    assert inputs.read("0" * 64) is None
    assert inputs.path("0" * 64) is None


def test_a_damaged_file_is_not_read_and_is_mended_when_it_comes_again(inputs: Inputs) -> None:
    sha256 = inputs.keep(Record("a", text="good"))["text"]
    path = inputs.path(sha256)
    assert path is not None
    path.write_bytes(b"")  # as a power cut leaves it
    assert inputs.read(sha256) is None
    inputs.keep(Record("a", text="good"))
    assert inputs.read(sha256) == (b"good", "text/plain; charset=utf-8")


def test_what_is_older_than_the_days_is_forgotten(inputs: Inputs) -> None:
    old, new = (inputs.keep(Record("a", text=text))["text"] for text in ("old", "new"))
    for sha256, age in ((old, 30.1), (new, 29.9)):
        path = inputs.path(sha256)
        assert path is not None
        os.utime(path, (NOW - age * DAY,) * 2)
    assert inputs.forget(NOW) == 1
    assert inputs.read(old) is None
    assert inputs.read(new) is not None


def test_what_comes_again_is_kept_anew(inputs: Inputs) -> None:
    sha256 = inputs.keep(Record("a", text="good"))["text"]
    path = inputs.path(sha256)
    assert path is not None
    os.utime(path, (NOW - 31 * DAY,) * 2)
    inputs.keep(Record("b", text="good"))
    assert inputs.forget(NOW) == 0


def test_what_a_killed_process_left_half_written_is_forgotten_too(inputs: Inputs) -> None:
    inputs.keep(Record("a", text="good"))
    place = next(inputs.folder.glob("*/*"))
    half = place / ".half.new"
    half.write_bytes(b"go")
    os.utime(half, (NOW - 31 * DAY,) * 2)
    assert inputs.forget(NOW) == 1
    assert not half.exists()


def test_threads_may_keep_the_same(inputs: Inputs) -> None:
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(inputs.keep, [Record("a", text="good", image=PNG)] * 200))
    assert all(one == kept[0] for one in kept)
    assert len(files(inputs)) == 2


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CapacityError, match=r"inputs cannot be kept in .*file/inputs: Not a direct"
    ):
        Inputs(tmp_path / "file" / "inputs", 30)


def test_a_full_disk_leaves_nothing_half_written(
    inputs: Inputs, small_files: Callable[[int], None]
) -> None:
    small_files(100)
    with pytest.raises(CapacityError, match=r"inputs cannot be kept in .*File too large"):
        inputs.keep(Record("a", image=PNG * 100))
    small_files(resource.RLIM_INFINITY)
    assert files(inputs) == []
