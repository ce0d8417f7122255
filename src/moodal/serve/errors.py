"""Every way to be refused, one shape: {"error": {"code", "message", "field"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from moodal.errors import CapacityError, ConfigError, MoodalError, RecordError

RETRY_SECONDS = 1
"""What a caller of a full service is asked to wait: a full queue is worked off in less."""


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


def busy(message: str, code: str = "busy", *, seconds: float = RETRY_SECONDS) -> RefusalError:
    """Come again in so many seconds."""
    return RefusalError(code, message, headers={"retry-after": str(max(1, round(seconds)))})


def refusal_of(error: Exception) -> RefusalError:
    """What a caller is told of an error; of a fault of ours, nothing but that it is one."""
    match error:
        case RefusalError():
            return error
        case RecordError():
            return RefusalError("record", error.reason, error.field)
        case CapacityError():
            return busy(str(error), "capacity")
        case ConfigError():
            return RefusalError("invalid", str(error))
    return RefusalError(
        "internal", "the service failed; its log holds the reason under the request id"
    )


def failure(error: Exception, id: str) -> dict[str, Any]:
    """A record's place in a batch of answers, when it failed."""
    return {"id": id, **refusal_of(error).to_dict()}
