"""A search space: setting -> what it may be. Read from YAML, checked against the settings."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import BaseModel, Field, model_validator

from moodal import config
from moodal.config import Run, Stage
from moodal.errors import ConfigError

Value = bool | int | float | str | None
Values = dict[str, Value]

STAGES = (
    "text",
    "image",
    "audio",
    "text_encoder",
    "image_encoder",
    "audio_encoder",
    "fusion",
    "head",
    "decoder",
    "train",
)
"""Where settings are searched for: what a model is and how it learns, not how it is asked."""
FIXED = (
    "text.vectors",
    "train.checkpoint_seconds",
    "train.denoise",
    "train.freeze",
    "train.mixture",
    "train.precision",
    "train.seed",
    "train.threads",
)
"""The same for every trial: they say what is learned, or change no score."""


class _Range(Stage):
    low: float
    high: float

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low={self.low:g} must be below high={self.high:g}, both finite")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


class Float(_Range):
    """A number, any between both ends as likely at first."""

    kind: Literal["float"] = "float"


class LogFloat(_Range):
    """A number whose logarithm is drawn: 0.001 to 0.01 is as wide as 0.01 to 0.1."""

    kind: Literal["log-float"] = "log-float"
    low: Annotated[float, Field(gt=0)]


class Int(Stage):
    """A whole number: low, low + step, ... up to high."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        if (self.high - self.low) % self.step:
            raise ValueError(f"step={self.step} leads from low={self.low} past high={self.high}")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        known = isinstance(value, int) and self.low <= value <= self.high
        return known and (int(value or 0) - self.low) % self.step == 0


class Choice(Stage):
    """One of these."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Value, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ValueError(f"values={list(self.values)} hold one twice")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.values

    def holds(self, value: Value) -> bool:
        return any(value == known and type(value) is type(known) for known in self.values)


Entry = Annotated[Float | LogFloat | Int | Choice, Field(discriminator="kind")]
KINDS = ("float", "log-float", "int", "choice")


class Space(Stage):
    """setting, as in train.learning_rate -> what it may be."""

    entries: dict[str, Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def plain(self) -> dict[str, Any]:
        """As YAML and JSON hold it."""
        return {n: _plain(entry.model_dump(mode="json")) for n, entry in self.entries.items()}

    def to_yaml(self) -> str:
        return "".join(f"{name}: {_flow(entry)}\n" for name, entry in self.plain().items())

    def only(self, names: set[str]) -> Space:
        return Space(entries={n: entry for n, entry in self.entries.items() if n in names})


def load(path: Path, run: Run) -> Space:
    """The space in a YAML file; every bound and choice is one that a run accepts.

    run: the settings that trials vary. Raises: ConfigError, naming the setting, the value and what
    was allowed.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict) or not values:
        raise ConfigError(
            f"{path}: holds no settings; write each as "
            "train.learning_rate: {kind: log-float, low: 0.0001, high: 0.01}"
        )
    return parse(values, run, name=path.name)


def parse(values: Mapping[Any, Any], run: Run, *, name: str) -> Space:
    """Check plain values, as YAML gives them. Raises: ConfigError."""
    for setting in values:
        if setting not in settings():
            raise ConfigError(f"{name}: {_unknown(str(setting))}")
    try:
        space = Space.model_validate({"entries": values})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{name}: {_sentence(str(first['loc'][1]), first)}") from error
    entries = {n: _accepted(n, entry, run, name) for n, entry in space.entries.items()}
    return Space(entries=entries)


def settings() -> tuple[str, ...]:
    """All that can be searched for."""
    names = (
        f"{stage}.{name}"
        for stage in STAGES
        for name, field in _stage(stage).model_fields.items()
        if not _is_many(getattr(getattr(Run(), stage), name), field.annotation)
    )
    return tuple(name for name in names if name not in FIXED)


def value(run: Run, setting: str) -> Value:
    """What a run has. setting: as in train.learning_rate."""
    stage, _, name = setting.partition(".")
    found: Value = getattr(getattr(run, stage), name)
    return found


def varied(run: Run, values: Mapping[str, Value]) -> Run:
    """The run with some settings changed. Raises: ConfigError for those that do not go together."""
    return config.parse(config.laid(run.model_dump(), nested(values)))


def nested(values: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Setting -> value as a tree, as a file of settings has it."""
    tree: dict[str, dict[str, Value]] = {}
    for setting, given in values.items():
        stage, _, name = setting.partition(".")
        tree.setdefault(stage, {})[name] = given
    return tree


def _stage(name: str) -> type[BaseModel]:
    found = Run.model_fields[name].annotation
    assert isinstance(found, type)
    assert issubclass(found, BaseModel)
    return found


def _is_many(default: object, annotation: object) -> bool:
    """Whether a setting is several numbers."""
    return isinstance(default, tuple) or "tuple" in str(annotation)


def _accepted(setting: str, entry: Any, run: Run, name: str) -> Any:
    """The entry, its values as a run holds them. Raises: ConfigError."""
    known = value(run, setting)
    if isinstance(entry, _Range) and isinstance(known, int) and not isinstance(known, bool):
        raise ConfigError(
            f"{name}: {setting} takes whole numbers, such as {known}: use kind: int or choice, "
            f"not {entry.model_dump()['kind']}"
        )
    ends = []
    for end in entry.ends:
        try:
            ends.append(value(varied(run, {setting: end}), setting))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    if isinstance(entry, Choice):
        return Choice(values=tuple(ends))
    return entry


def _unknown(setting: str) -> str:
    stage, _, name = setting.partition(".")
    if setting in FIXED:
        return f"{setting}: is the same for every trial; give it with --set"
    if name and stage in STAGES:
        known = [n.partition(".")[2] for n in settings() if n.startswith(f"{stage}.")]
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" (perhaps {stage}.{near[0]})" if near else ""
        return (
            f"{setting}: there is no such setting to search for{meant}; {stage} has "
            f"{', '.join(known)}"
        )
    return (
        f"{setting}: there is no such setting to search for; write one of "
        f"{', '.join(f'{stage}.…' for stage in STAGES)}, as in train.learning_rate"
    )


def _sentence(setting: str, error: Any) -> str:
    """One of pydantic's errors, for people."""
    given, kind = error.get("input"), error["type"]
    if not isinstance(given, dict) and len(error["loc"]) == 2:
        return f"{setting}={given!r}: write it as {{kind: float, low: 0.0, high: 0.5}}"
    if kind.startswith("union_tag"):
        return f"{setting}: kind={given.get('kind')!r} is none of {', '.join(KINDS)}"
    if kind == "value_error":
        return f"{setting}: {error['ctx']['error']}"
    return setting + _key_sentence(str(error["loc"][3]), error)


def _key_sentence(key: str, error: Any) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return f".{key}: there is no such key; use low and high, step, or values"
    if kind == "missing":
        return f": {key} is missing"
    if key == "values" and len(error["loc"]) > 4:
        return f": values hold {given!r}; each is a text, a number, true, false or null"
    return f".{key}={given!r}: {error['msg']}"


def _flow(entry: Mapping[str, Any]) -> str:
    """YAML on one line."""
    line = yaml.safe_dump(dict(entry), default_flow_style=True, sort_keys=False, width=1000)
    return line.strip()


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`kind` first; a step of 1 goes without saying."""
    kept = {key: given for key, given in entry.items() if (key, given) != ("step", 1)}
    return {"kind": kept.pop("kind"), **kept}
