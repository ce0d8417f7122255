"""multipart/form-data -> fields, in memory alone: what `curl -F` and browsers send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from moodal.serve.errors import RefusalError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELDS = 16
"""Of a form: a record has five."""


def parse(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """Name -> value; of a name that comes twice, RefusalError. Raises: RefusalError (400, 422)."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise RefusalError("not_multipart", "the content type names no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise RefusalError(
            "not_multipart", f"the body is no multipart form ({error}); send what `curl -F` sends"
        ) from error
    if not reader.ended:
        raise RefusalError("not_multipart", "the multipart body ends before its last boundary")
    return reader.fields


class _Reader:
    """What the parser tells, gathered."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._parts: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self._headers, self._parts = {}, []
        if len(self.fields) >= MOST_FIELDS:
            raise RefusalError("invalid", f"the form has more than {MOST_FIELDS} fields")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts.append(data[start:end])

    def _end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        name = parse_options_header(disposition)[1].get(b"name", b"").decode("utf-8", "replace")
        if name in self.fields:
            raise RefusalError("invalid", "stands in the form twice; send it once", name[:100])
        self.fields[name] = b"".join(self._parts)

    def _all(self) -> None:
        self.ended = True
