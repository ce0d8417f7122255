"""Forms as browsers and curl send them, and whatever else comes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.serve import forms
from moodal.serve.errors import RefusalError
from tests.serve.conftest import form

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
BOUNDARY = b"----x"
KIND = b"multipart/form-data; boundary=----x"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=300), min_size=1, max_size=8))
def test_what_is_sent_is_read(fields: dict[str, bytes]) -> None:
    kind, body = form(fields)
    assert forms.parse(body, kind.encode()) == fields


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.lists(
    st.sampled_from([
        b"--", BOUNDARY, b"\r\n", b"\n", b":", b'name="a"', b"\xff", b"\0", b";", b"=",
        b"Content-Disposition: form-data; ", b"filename*=utf-8''x", b"x" * 5000,
    ]), max_size=30).map(b"".join))  # fmt: skip
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(RefusalError):
        forms.parse(body, KIND)


@pytest.mark.parametrize("kind", [
    b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary",
    b"multipart/form-data; boundary=" + b"x" * 10_000, b"multipart/form-data; boundary=\xff",
])  # fmt: skip
def test_a_boundary_is_needed(kind: bytes) -> None:
    with pytest.raises(RefusalError) as caught:
        forms.parse(b"--x\r\n", kind)
    assert caught.value.code == "not_multipart"


def test_a_form_that_was_cut_short_is_refused() -> None:
    _, body = form({"text": "a" * 100})
    kind, body = form({"text": "a" * 100})
    for end in (10, 50, len(body) - 10):
        with pytest.raises(RefusalError, match=r"last boundary|multipart form"):
            forms.parse(body[:end], kind.encode())


def test_fields_are_few() -> None:
    kind, body = form({str(n): "a" for n in range(17)})
    with pytest.raises(RefusalError, match="more than 16 fields"):
        forms.parse(body, kind.encode())
