"""What to search where no space is given: settings that mean something to this task and data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from moodal.config import Encoder, Fusion, Run
from moodal.errors import ConfigError
from moodal.model.build import AUTO, REGISTRIES
from moodal.preprocess.batch import Kind
from moodal.tasks import TASKS, Head
from moodal.training.objectives import LOSSES, SMOOTHED
from moodal.tuning.space import Choice, Float, Int, LogFloat, Space, Values, value, varied
from moodal.types import MODALITIES, Modality, Subset

Entries = dict[str, Float | LogFloat | Int | Choice]


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known before the first trial.

    run: the settings that trials vary. kinds: modality -> what it is read as. has_labels: the
    answer is one of several. inherited: modalities whose encoder comes from a trained model.
    """

    run: Run
    kinds: Mapping[Modality, Kind]
    has_labels: bool
    inherited: Subset = ()

    @property
    def head(self) -> Head:
        return TASKS[self.run.task].head

    @property
    def is_smoothed(self) -> bool:
        return LOSSES[self.run.task][self.run.train.loss] in SMOOTHED


class Rule(NamedTuple):
    """Settings, as a regular expression, that mean nothing in some situations, and why."""

    settings: str
    is_idle: Callable[[Situation], bool]
    why: str


def _of(modality: Modality) -> Iterator[Rule]:
    encoder, kind = f"{modality}_encoder", modality
    yield Rule(rf"({modality}|{encoder})\..*", lambda s: kind not in s.kinds, f"no {kind} is read")
    yield Rule(
        rf"{modality}\..*",
        lambda s: s.kinds[kind] == "vectors",
        f"{kind} is read as features, which are taken as they are",
    )
    yield Rule(
        rf"{encoder}\.(kind|width|layers|heads|kernel_size)",
        lambda s: kind in s.inherited,
        f"the {kind} encoder is that of the model to start from",
    )


RULES = (
    *(rule for modality in MODALITIES for rule in _of(modality)),
    Rule(
        r"fusion\.(kind|width|rank|layers|heads|bottlenecks)",
        lambda s: bool(s.inherited),
        "the fusion is that of the model to start from",
    ),
    Rule(
        r"fusion\.(?!width).*",
        lambda s: s.head == "frames",
        "what is said is written down frame by frame, without a fusion",
    ),
    Rule(r"head\..*", lambda s: s.head == "decoder", "a decoder answers, not a head"),
    Rule(r"head\.(?!dropout).*", lambda s: s.head == "frames", "one layer answers each frame"),
    Rule(r"decoder\..*", lambda s: s.head != "decoder", "no answer is said word by word"),
    Rule(
        r"fusion\.kind|train\.(modality_dropout|auxiliary)",
        lambda s: len(s.kinds) == 1,
        "one modality is read, so there is nothing to fuse or to hide",
    ),
    Rule(r"train\.label_smoothing", lambda s: not s.is_smoothed, "the loss smooths no labels"),
    Rule(r"train\.class_weights", lambda s: not s.has_labels, "there are no classes to weigh"),
    Rule(r"text\.symbols", lambda s: s.kinds["text"] != "symbols", "words are read, not symbols"),
    Rule(
        r"text\.(vocabulary|min_count|\w+_ngrams|pieces|segment|lowercase|stop_words)",
        lambda s: s.kinds["text"] != "tokens",
        "symbols are read, not words",
    ),
)
"""The first that fits holds."""


def why_idle(setting: str, here: Situation) -> str:
    """Why a setting means nothing here; "" where it does."""
    return next((r.why for r in RULES if re.fullmatch(r.settings, setting) and r.is_idle(here)), "")


def that_matter(space: Space, here: Situation) -> tuple[Space, dict[str, str]]:
    """The settings that mean something, and why the others do not.

    Raises: ConfigError when none is left, or one may be what this task or input does not have.
    """
    idle = {name: why for name in space.entries if (why := why_idle(name, here))}
    kept = space.only({name for name in space.entries if name not in idle})
    if not len(kept):
        reasons = "; ".join(f"{name}: {why}" for name, why in idle.items())
        raise ConfigError(f"no setting of the space means anything here: {reasons}")
    for name, entry in kept.entries.items():
        known = _known(name, here)
        for given in entry.ends if known else ():
            if given not in known:
                raise ConfigError(f"{name}={given!r}: here it is one of {', '.join(known)}")
    return kept, idle


def _known(setting: str, here: Situation) -> tuple[str, ...]:
    """The words a setting may be, where they depend on the task or the input; () = they do not."""
    stage, _, name = setting.partition(".")
    if name == "kind" and stage.endswith("_encoder"):
        modality: Any = stage.removesuffix("_encoder")
        return ("auto", *REGISTRIES[here.kinds[modality]])
    return tuple(LOSSES[here.run.task]) if setting == "train.loss" else ()


def resolved(run: Run, kinds: Mapping[Modality, Kind]) -> Run:
    """The same run, its encoders by their name, so that they can be compared with others."""
    auto = {m: k for m, k in kinds.items() if value(run, f"{m}_encoder.kind") == "auto"}
    return varied(run, {f"{m}_encoder.kind": AUTO[kind] for m, kind in auto.items()})


def space(here: Situation) -> Space:
    """The default space, around what the run has: its own values are always among it."""
    run = here.run
    entries: Entries = dict(_learning(run))
    for modality, kind in here.kinds.items():
        entries |= _encoder(modality, getattr(run, f"{modality}_encoder"), kind)
    entries |= _fusion(run.fusion)
    entries |= {
        "head.dropout": _up_to(0.6, run.head.dropout),
        "decoder.dropout": _up_to(0.6, run.decoder.dropout),
    }
    entries |= {name: _up_to(most, _number(run, name)) for name, most in AUGMENTATION.items()}
    return Space(entries={n: e for n, e in entries.items() if not why_idle(n, here)})


NARROWEST = 8
"""Width under which an encoder of sound has no channel left."""
AUGMENTATION = {
    "text.word_dropout": 0.3,
    "image.crop": 0.3,
    "image.scale": 0.4,
    "image.colour": 0.4,
    "audio.augment": 1.0,
    "audio.mask_time": 0.3,
    "audio.mask_frequency": 0.4,
}
"""Setting -> the most that is tried."""


def _learning(run: Run) -> Entries:
    train = run.train
    weights = train.class_weights  # powers for each set are what the sets are scored by
    weighed = {} if isinstance(weights, dict) else {"train.class_weights": _up_to(1.0, weights)}
    return {
        "train.learning_rate": _around(train.learning_rate, 10),
        "train.batch_size": _halved_and_doubled(train.batch_size, of=1),
        "train.l1": _one_of((0.0, 1e-6, 1e-5, 1e-4), train.l1),
        "train.l2": _around(train.l2, 30) if train.l2 else _one_of((0.0, 1e-3, 1e-2, 0.1), 0.0),
        "train.average": _one_of((0.0, 0.99), train.average),
        "train.label_smoothing": _up_to(0.2, train.label_smoothing),
        **weighed,
        "train.modality_dropout": _up_to(0.5, train.modality_dropout),
        "train.auxiliary": _up_to(1.0, train.auxiliary),
    }


def _encoder(modality: Modality, encoder: Encoder, kind: Kind) -> Entries:
    known, stage = tuple(REGISTRIES[kind]), f"{modality}_encoder"
    kinds: Entries = {f"{stage}.kind": Choice(values=known)} if len(known) > 1 else {}
    return kinds | {
        f"{stage}.width": _halved_and_doubled(encoder.width, encoder.heads, NARROWEST),
        f"{stage}.layers": Int(low=1, high=max(3, encoder.layers)),
        f"{stage}.dropout": _up_to(0.7, encoder.dropout),
    }


def _fusion(fusion: Fusion) -> Entries:
    return {
        "fusion.kind": Choice(values=get_args(Fusion.model_fields["kind"].annotation)),
        "fusion.width": _halved_and_doubled(fusion.width, fusion.heads, NARROWEST),
        "fusion.dropout": _up_to(0.5, fusion.dropout),
    }


def _number(run: Run, setting: str) -> float:
    found = value(run, setting)
    assert isinstance(found, int | float), "the setting is a number"
    return found


def _up_to(most: float, here: float) -> Float:
    return Float(low=0.0, high=max(most, here))


def _around(here: float, times: float) -> LogFloat:
    return LogFloat(low=here / times, high=here * times)


def _one_of(values: tuple[float, ...], here: float) -> Choice:
    return Choice(values=tuple(sorted({*values, here})))


def _halved_and_doubled(here: int, of: int, least: int = 1) -> Choice:
    """Multiples of a number, as `here` is one; the half only where it is not below `least`."""
    half = here // 2 // of * of
    return Choice(values=tuple(sorted({half if half >= least else here, here, 2 * here})))


def values_of(run: Run, found: Space) -> Values | None:
    """What the run itself is within the space; None where it lies outside."""
    own = {name: value(run, name) for name in found.entries}
    return own if all(found.entries[name].holds(given) for name, given in own.items()) else None
