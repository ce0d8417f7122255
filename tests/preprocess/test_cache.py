"""A cache answers with what was put, over kills, damage, two writers and a full disk."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.errors import CapacityError, RecordError
from moodal.preprocess.cache import Cache, content_key, default_folder, kind_of

WRITER = """
import sys
from pathlib import Path
import numpy as np
from moodal.preprocess.cache import Cache
folder, name, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Cache(folder, "s") as cache:
    print("ready", flush=True)
    for i in range(n):
        cache.put(f"{name} {i}".encode(), np.full(5000, i, np.float32))
"""


def writer(folder: Path, name: str, n: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def only_folder(folder: Path) -> Path:
    (inner,) = folder.iterdir()
    return inner


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(27, dtype=np.uint8).reshape(3, 3, 3),
        np.arange(12).reshape(3, 4).T,  # not contiguous
        np.float64(3.5).reshape(()),
        np.zeros((0, 4), np.int32),
    ],
)
def test_what_was_put_is_got_in_this_run_and_the_next(array: np.ndarray, tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        assert cache.get(b"k") is None
        cache.put(b"before", np.ones(3, np.uint8))  # so that it does not begin at 0
        cache.put(b"k", array)
        first = cache.get(b"k")
    with Cache(tmp_path, "s") as cache:
        second = cache.get(b"k")
    for result in (first, second):
        assert result is not None
        assert (result.dtype, result.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(result, array)


def test_what_is_got_is_a_read_only_view_that_outlives_the_cache(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        cache.put(b"k", np.arange(5))
        view, again = cache.get(b"k"), cache.get(b"k")
    assert view is not None
    assert again is not None
    assert np.shares_memory(view, again)  # of the map: nothing was copied
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    np.testing.assert_array_equal(view, np.arange(5))


def test_a_second_run_makes_nothing(tmp_path: Path) -> None:
    for n_made in (3, 0):
        with Cache(tmp_path, "s") as cache:
            for i in range(3):
                result = cache.get_or_make(bytes([i]), lambda i=i: np.full(4, i))
                np.testing.assert_array_equal(result, [i] * 4)
                assert not result.flags.writeable
            assert cache.decoded == n_made


def test_a_failing_make_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> np.ndarray:
        raise RecordError("is damaged", field="image")

    with Cache(tmp_path, "s") as cache:
        with pytest.raises(RecordError):
            cache.get_or_make(b"k", fails)
        assert cache.get(b"k") is None
        assert cache.decoded == 0


def test_other_settings_see_nothing_and_the_folder_says_its_format(tmp_path: Path) -> None:
    with Cache(tmp_path, "size=96") as one, Cache(tmp_path, "size=64") as other:
        one.put(b"k", np.arange(3))
        assert other.get(b"k") is None
        assert one.folder != other.folder
        assert one.folder.name.startswith("format-1-")
        assert {p.name for p in one.folder.iterdir()} >= {"arrays.bin", "index.sqlite"}


def test_a_later_put_replaces_an_earlier(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        cache.put(b"k", np.arange(3))
        old = cache.get(b"k")
        cache.put(b"k", np.arange(7))
        np.testing.assert_array_equal(cache.get(b"k"), np.arange(7))
        np.testing.assert_array_equal(old, np.arange(3))


def test_what_another_process_adds_is_seen_at_once(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as one, Cache(tmp_path, "s") as other:
        for i in range(20):
            one.put(bytes([i]), np.full(3000, i))
            np.testing.assert_array_equal(other.get(bytes([i])), np.full(3000, i))


def test_two_processes_write_at_once_and_both_are_kept(tmp_path: Path) -> None:
    n = 60
    processes = [writer(tmp_path, name, n) for name in "ab"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Cache(tmp_path, "s") as cache:
        for name in "ab":
            for i in range(n):
                np.testing.assert_array_equal(cache.get(f"{name} {i}".encode()), np.full(5000, i))


def test_a_writer_waits_for_its_turn_before_it_touches_the_arrays(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        other = sqlite3.connect(cache.folder / "index.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=cache.put, args=(b"k", np.arange(5)))
        thread.start()
        time.sleep(0.1)
        assert (cache.folder / "arrays.bin").stat().st_size == 0
        other.execute("COMMIT")
        other.close()
        thread.join()
        np.testing.assert_array_equal(cache.get(b"k"), np.arange(5))


def test_a_killed_writer_leaves_only_whole_arrays(tmp_path: Path) -> None:
    process = writer(tmp_path, "a", 1_000_000)
    assert process.stdout is not None
    process.stdout.readline()
    arrays = only_folder(tmp_path) / "arrays.bin"
    while arrays.stat().st_size < 200_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Cache(tmp_path, "s") as cache:
        i = 0
        while (found := cache.get(f"a {i}".encode())) is not None:
            np.testing.assert_array_equal(found, np.full(5000, i))
            i += 1
        assert i > 0
        cache.put(b"after", np.arange(4))
        np.testing.assert_array_equal(cache.get(b"after"), np.arange(4))


def test_stray_bytes_at_the_end_are_harmless(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        cache.put(b"a", np.arange(5))
    with (only_folder(tmp_path) / "arrays.bin").open("ab") as file:
        file.write(b"half of an arr")
    with Cache(tmp_path, "s") as cache:
        cache.put(b"b", np.arange(9))
        np.testing.assert_array_equal(cache.get(b"a"), np.arange(5))
        np.testing.assert_array_equal(cache.get(b"b"), np.arange(9))


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "cut while open"])
def test_damaged_arrays_are_made_again(damage: str, tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        cache.put(b"a", np.arange(5))
        cache.put(b"b", np.arange(100, 109))
        np.testing.assert_array_equal(cache.get(b"b"), np.arange(100, 109))
        path = only_folder(tmp_path) / "arrays.bin"
        if damage == "cut while open":
            os.truncate(path, 100)
            assert cache.get(b"b") is None
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[70] ^= 1
        path.write_bytes(data)
    elif damage == "gone":
        path.unlink()
    with Cache(tmp_path, "s") as cache:
        np.testing.assert_array_equal(
            cache.get_or_make(b"b", lambda: np.arange(100, 109)), np.arange(100, 109)
        )
        assert cache.decoded == 1
        np.testing.assert_array_equal(cache.get(b"b"), np.arange(100, 109))
        a = cache.get(b"a")
        assert (a is None) == (damage == "gone")


@pytest.mark.parametrize("damage", [b"", b"this is no database" * 300, "pages"])
def test_a_damaged_index_is_begun_again(damage: bytes | str, tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        for i in range(500):
            cache.put(i.to_bytes(16, "little"), np.arange(5))
    path = only_folder(tmp_path) / "index.sqlite"
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:  # the head is sound, so that it opens, and what follows is not
        data = path.read_bytes()
        path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    with Cache(tmp_path, "s") as cache:
        for i in range(500):
            result = cache.get_or_make(i.to_bytes(16, "little"), lambda: np.arange(5))
            np.testing.assert_array_equal(result, np.arange(5))
        assert cache.decoded > 0
    with Cache(tmp_path, "s") as cache:
        assert all(cache.get(i.to_bytes(16, "little")) is not None for i in range(500))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_said_with_the_folder(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        path = cache.folder / "arrays.bin"
    path.unlink()
    path.symlink_to("/dev/full")
    with (
        Cache(tmp_path, "s") as cache,
        pytest.raises(CapacityError, match=r"format-1-\w+ cannot be used: No space left .* free"),
    ):
        cache.put(b"k", np.arange(5))


def test_a_write_that_fails_half_way_harms_nothing(tmp_path: Path) -> None:
    with Cache(tmp_path, "s") as cache:
        cache.put(b"a", np.arange(5))
        size = (cache.folder / "arrays.bin").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        try:
            with pytest.raises(CapacityError, match="File too large"):
                cache.put(b"b", np.zeros(1_000_000, np.uint8))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (cache.folder / "arrays.bin").stat().st_size == size
        assert cache.get(b"b") is None
        np.testing.assert_array_equal(cache.get(b"a"), np.arange(5))
        cache.put(b"b", np.arange(3))
        np.testing.assert_array_equal(cache.get(b"b"), np.arange(3))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CapacityError, match=r"file/format-1-\w+ cannot be used: Not a directory"):
        Cache(tmp_path / "file", "s")


def test_a_row_that_is_not_committed_is_not_there(tmp_path: Path) -> None:
    """The order that makes a kill safe: bytes first, row last, in one transaction."""
    with Cache(tmp_path, "s") as cache:
        cache.put(b"a", np.arange(3))
        other = sqlite3.connect(cache.folder / "index.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO arrays SELECT x'62', offset, dtype, shape, crc FROM arrays")
        assert cache.get(b"b") is None
        other.close()


@given(st.binary(max_size=200))
def test_a_path_and_its_bytes_have_one_key(data: bytes) -> None:
    folder = default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "file"
    path.write_bytes(data)
    assert content_key(path) == content_key(data)
    assert len(content_key(data)) == 16
    assert content_key(data + b"x") != content_key(data)


def test_arrays_that_differ_in_values_shape_or_type_have_other_keys() -> None:
    arrays = [
        np.zeros((2, 3), np.float32),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 3), np.int32),
        np.ones((2, 3), np.float32),
    ]
    keys = {content_key(a) for a in arrays} | {content_key(arrays[0].tobytes())}
    assert len(keys) == 5
    big = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert content_key(big[:, ::2]) == content_key(big[:, ::2].copy())


def test_a_missing_file_has_no_key(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"gone\.jpg: No such file") as raised:
        content_key(tmp_path / "gone.jpg", field="image")
    assert raised.value.field == "image"
    with pytest.raises(RecordError, match="null"):
        content_key(Path("a\0b"))


def test_the_default_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_folder() == tmp_path / "cache" / "moodal"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "moodal"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("很高兴见到你，很高兴见到你，很高兴见到你，很高兴见到你".encode(), "a text file"),
        (b"a", "a text file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x1cftypM4A ", "an MP4 or M4A file"),
        (b"\xfe\xed\xfa\xce\1\2\3\4", "of an unknown kind (first bytes fe ed fa ce 01 02 03 04)"),
    ],
)
def test_a_file_is_named_by_its_first_bytes(data: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert kind_of(data) == kind_of(tmp_path / "x") == kind
