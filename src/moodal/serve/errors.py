"""Every way to be refused, one shape: {"error": {"code", "message", "field"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from moodal.errors import CapacityError, ConfigError, DataError, MoodalError, RecordError
from moodal.serve.engine import BusyError, LateError, StoppedError

RETRY_SECONDS = 1
"""What a caller of a full service is asked to wait: a full queue is worked off in less."""
STOP_SECONDS = 10
"""And of one that stops, perhaps to start anew."""


class RefusalError(MoodalError):
    """A request that is answered with an error.

    code: for programs; one of CODES. message: a sentence for people. field: the part of the request
    at fault, or "". headers: sent with it.
    """

    def __init__(
        self, code: str, message: str, field: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.headers = headers or {}

    @property
    def status(self) -> int:
        return CODES[self.code]

    def to_dict(self) -> dict[str, dict[str, str]]:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field}}

    def body(self) -> bytes:
        return to_json(self.to_dict())


CODES: dict[str, int] = {
    "not_json": 400,
    "not_multipart": 400,
    "bad_request": 400,
    "key_missing": 401,
    "key_unknown": 401,
    "foreign_host": 403,
    "foreign_origin": 403,
    "not_found": 404,
    "unknown_prediction": 404,
    "unknown_input": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "media_type": 415,
    "invalid": 422,
    "record": 422,
    "label": 422,
    "rate": 429,
    "internal": 500,
    "busy": 503,
    "waited": 503,
    "stopping": 503,
    "journal": 503,
    "capacity": 503,
}
"""Code -> status."""
_LATER: tuple[tuple[type[Exception], str, float], ...] = (
    (BusyError, "busy", RETRY_SECONDS),
    (LateError, "waited", RETRY_SECONDS),
    (StoppedError, "stopping", STOP_SECONDS),
    (CapacityError, "capacity", RETRY_SECONDS),
)
"""Errors that pass: the kind, its code, and when to come again. The first that fits counts."""


def busy(message: str, code: str = "busy", *, seconds: float = RETRY_SECONDS) -> RefusalError:
    """Come again in so many seconds."""
    return RefusalError(code, message, headers={"retry-after": str(max(1, round(seconds)))})


def refusal_of(error: Exception) -> RefusalError:
    """What a caller is told of an error; of a fault of ours, nothing but that it is one."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, RecordError):
        return RefusalError("record", error.reason, error.field)
    for kind, code, seconds in _LATER:
        if isinstance(error, kind):
            return busy(str(error), code, seconds=seconds)
    if isinstance(error, DataError | ConfigError):
        return RefusalError("invalid", str(error))
    return RefusalError(
        "internal", "the service failed; its log holds the reason under the request id"
    )


def failure(error: RefusalError, id: str) -> dict[str, Any]:
    """A record's place in a batch of answers, when it failed."""
    return {"id": id, **error.to_dict()}
