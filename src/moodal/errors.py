"""Every error a caller may want to catch, and who can mend it.

MoodalError
├── DataError          the manifest or its media: whoever made the file
│   └── RecordError    one row of it, or one record given to predict
├── ConfigError        a setting: whoever wrote the command or the configuration
├── ModelError         a bundle: damaged, of an unknown format, or of another kind
└── CapacityError      the machine: no space, no memory, a package that is not installed
"""

from __future__ import annotations

from moodal.types import Rejection


class MoodalError(Exception):
    """The root: catch this to catch all that moodal raises on purpose."""


class DataError(MoodalError):
    """A manifest or its media are wrong as a whole."""


class RecordError(DataError):
    """One record is wrong; a stream of records goes on without it.

    field: the modality or column at fault, or "" for the record as a whole.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field

    def rejection(self, id: str, source: str) -> Rejection:
        return Rejection(id=id, source=source, field=self.field, reason=self.reason)


class ConfigError(MoodalError):
    """A setting is unknown, out of range or contradicts another."""


class ModelError(MoodalError):
    """A bundle is damaged, changed, of an unknown format, or does not do what was asked."""


class CapacityError(MoodalError):
    """The machine lacks something: disk space, memory, an optional package."""
