"""API keys: kept hashed, compared in constant time, read again when they change."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from moodal.errors import CapacityError, ConfigError
from moodal.serve import keys
from moodal.serve.errors import RefusalError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def test_a_key_is_kept_as_its_hash_for_its_owner_alone(file: Path) -> None:
    key = keys.add(file, "ann")
    assert key.startswith("moodal_")
    assert len(key) > 40
    assert file.read_text() == f"ann:{hashlib.sha256(key.encode()).hexdigest()}\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_caller_is_known_by_either_header(file: Path) -> None:
    ann, bob = keys.add(file, "ann"), keys.add(file, "bob")
    known = keys.Keys(file)
    assert known.caller(bearer(ann)) == "ann"
    assert known.caller({b"authorization": b"bearer  " + bob.encode()}) == "bob"
    assert known.caller({b"x-api-key": bob.encode()}) == "bob"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "key_missing"),
        ({b"authorization": b"Basic YTpi"}, "key_missing"),
        ({b"authorization": b"Bearer"}, "key_missing"),
        (bearer("moodal_wrong"), "key_unknown"),
        ({b"x-api-key": b"\xff\0"}, "key_unknown"),
    ],
)
def test_others_are_refused(file: Path, headers: dict[bytes, bytes], code: str) -> None:
    keys.add(file, "ann")
    with pytest.raises(RefusalError) as caught:
        keys.Keys(file).caller(headers)
    assert (caught.value.code, caught.value.status) == (code, 401)
    assert caught.value.headers["www-authenticate"].startswith("Bearer")


def test_the_hash_is_no_key(file: Path) -> None:
    keys.add(file, "ann")
    with pytest.raises(RefusalError):
        keys.Keys(file).caller(bearer(file.read_text().strip().partition(":")[2]))


def test_every_key_is_compared_in_constant_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [keys.add(file, name) for name in "abc"]
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))
    assert keys.Keys(file).caller(bearer(made[0])) == "a"
    assert len(compared) == 3


def test_the_file_is_read_again_when_it_changes(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)
    ann = keys.add(file, "ann")
    known = keys.Keys(file)
    bob = keys.add(file, "bob")
    assert known.caller(bearer(bob)) == "bob"
    keys.remove(file, "ann")
    with pytest.raises(RefusalError):
        known.caller(bearer(ann))


def test_a_damaged_file_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)
    ann = keys.add(file, "ann")
    known = keys.Keys(file)
    for content in ("nonsense", ""):
        file.write_text(content)
        assert known.caller(bearer(ann)) == "ann"
    file.unlink()
    assert known.caller(bearer(ann)) == "ann"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("ann", "line 1"),
        ("# who\n\nann:123", "line 3"),
        ("an n:" + "0" * 64, "line 1"),
        (f"a:{'0' * 64}\na:{'1' * 64}", "line 2"),
        ("", "holds no key"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_file_of_something_else_is_refused(file: Path, content: str, sentence: str) -> None:
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigError, match=sentence):
        keys.Keys(file)


def test_without_a_file_the_command_to_make_one_is_told(file: Path) -> None:
    with pytest.raises(ConfigError, match="moodal keys add"):
        keys.Keys(file)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "x" * 65, "a\n"])
def test_a_name_is_a_plain_word(file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a key"):
        keys.add(file, name)


def test_names_are_different_and_there(file: Path) -> None:
    keys.add(file, "ann")
    with pytest.raises(ConfigError, match="has a key 'ann'"):
        keys.add(file, "ann")
    with pytest.raises(ConfigError, match="has no key 'bob', only ann"):
        keys.remove(file, "bob")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="cannot be written"):
        keys.add(tmp_path / "absent" / "keys", "ann")
