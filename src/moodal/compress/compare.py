"""Models side by side: how large, how quick and how good, on the same rows; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from moodal import bundle
from moodal.compress import measure
from moodal.compress.measure import Speed
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import ConfigError, ModelError
from moodal.evaluation.report import Words
from moodal.monitor.paired import RESAMPLES, Pairs, Verdict, gather, verdicts
from moodal.runtime.predict import Model
from moodal.tasks import TASKS
from moodal.types import Record, Rejection

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What a model may cost; None = anything. max_drop: of the score, in its units, against the
    first model. max_ms: of one record, the graphs alone. max_mb: of all files."""

    max_drop: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """A budget that a model does not keep."""

    model: str
    budget: str
    found: float
    allowed: float

    @property
    def words(self) -> Words:
        en, zh, digits = _TOLD[self.budget]
        found, allowed = (f"{value:.{digits}f}" for value in (self.found, self.allowed))
        return (
            f"{self.model}: {en} {found}, at most {allowed} is allowed",
            f"{self.model}：{zh} {found}，上限为 {allowed}",
        )


_TOLD = {
    "max_drop": ("the score is worse by", "得分下降", 4),
    "max_ms": ("milliseconds of one record, the model alone:", "单条样本的模型耗时（毫秒）", 3),
    "max_mb": ("megabytes of all files:", "全部文件大小（MB）", 2),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One model. verdicts: against the first, all rows first; of the first itself none. memory_mb:
    of a process of its own, Python with it; None where the system does not tell. smaller: how many
    times, than the first. lost: rows that the first answers, and this one cannot read."""

    name: str
    modalities: tuple[str, ...]
    weights: str
    arithmetic: str
    size_mb: float
    smaller: float
    parameters: int
    memory_mb: float | None
    alone: Speed
    end_to_end: Speed
    score: float | None
    verdicts: tuple[Verdict, ...] = ()
    lost: int = 0

    @property
    def gain(self) -> float | None:
        return self.verdicts[0].gain if self.verdicts else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Compared:
    """models: the first is what the others are measured against. n: rows scored. rejected: the
    first of n_rejected rows that some model could not answer, of those that lost most."""

    name: str
    task: str
    metric: str
    higher_is_better: bool
    n: int
    unlabelled: int
    n_rejected: int
    rejected: tuple[Rejection, ...]
    models: tuple[Measured, ...]
    budget: Budget
    missed: tuple[Missed, ...]

    @property
    def within(self) -> bool:
        return not self.missed

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        names = (n for n in self.__slots__ if n not in ("models", "budget", "missed", "rejected"))
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in names},
            "within": self.within,
            "resamples": RESAMPLES,
            "rejected": [rejection.to_dict() for rejection in self.rejected],
            "models": [model.to_dict() for model in self.models],
            "budget": asdict(self.budget),
            "missed": [asdict(m) | dict(zip(("en", "zh"), m.words, strict=True))
                       for m in self.missed],
        }  # fmt: skip


def compare(
    folders: Sequence[Path],
    test: Path,
    *,
    columns: Columns | None = None,
    budget: Budget | None = None,
    seed: int = 0,
) -> Compared:
    """Measure models on the labelled rows of a manifest; the first is the reference.

    columns: of the manifest; None = the first model's, where the manifest has them.
    Raises: ConfigError for fewer than two models, or one twice; ModelError when one answers
        something else than the first; DataError when no row can be scored, or timed.
    """
    infos = check(folders)
    columns = columns or manifest.columns_in(test, infos[0].columns)
    rows = partial(manifest.read, test, columns)
    paired = [_paired(folders[0], folder, rows()) for folder in folders[1:]]
    judged = [tuple(verdicts(pairs, resamples=RESAMPLES, seed=seed)) for pairs in paired]
    graphs = measure.side_by_side(folders, rows(), work=measure.GRAPHS)
    whole = measure.side_by_side(folders, rows(), work=measure.WHOLE)
    sizes = [measure.size_mb(folder) for folder in folders]
    scores = [judged[0][0].old, *(found[0].new for found in judged)]
    models = tuple(
        Measured(
            name=str(folder),
            modalities=info.modalities,
            weights=info.weights,
            arithmetic=info.arithmetic,
            size_mb=sizes[place],
            smaller=sizes[0] / sizes[place],
            parameters=info.parameters,
            memory_mb=measure.memory_mb(folder, test, columns),
            alone=graphs[place],
            end_to_end=whole[place],
            score=scores[place],
            verdicts=judged[place - 1] if place else (),
            lost=paired[place - 1].lost if place else 0,
        )
        for place, (folder, info) in enumerate(zip(folders, infos, strict=True))
    )
    worst = max(paired, key=lambda pairs: pairs.rejected.n)
    task, asked = TASKS[infos[0].task], budget or Budget()
    return Compared(
        name=test.name,
        task=task.name,
        metric=task.goal,
        higher_is_better=task.higher_is_better,
        n=judged[0][0].n,
        unlabelled=worst.unlabelled,
        n_rejected=worst.rejected.n,
        rejected=tuple(worst.rejected.first),
        models=models,
        budget=asked,
        missed=tuple(_missed(models, asked)),
    )


def check(folders: Sequence[Path]) -> list[bundle.Info]:
    """What is to be compared must answer the same. Raises: ConfigError, ModelError."""
    if len(folders) < 2:
        raise ConfigError("name two models or more; the first is what the others are compared with")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(f"{', '.join(map(str, folders))}: a model is named twice")
    infos = [bundle.verify(folder) for folder in folders]
    first = infos[0]
    for folder, info in zip(folders[1:], infos[1:], strict=True):
        if info.task != first.task:
            raise ModelError(
                f"{folder}: has task={info.task}, and {folders[0]} task={first.task}; compare "
                "models of one task"
            )
        if TASKS[first.task].head == "summary" and set(info.labels) != set(first.labels):
            raise ModelError(
                f"{folder}: answers with {', '.join(info.labels)}, and {folders[0]} with "
                f"{', '.join(first.labels)}; compare models of the same labels"
            )
    return infos


def _paired(first: Path, folder: Path, rows: Iterable[Record | Rejection]) -> Pairs:
    """Both models' answers to the rows. Raises: DataError."""
    told = tqdm(rows, f"scoring {folder.name}", unit=" rows", delay=2, leave=False, disable=None)
    return gather(Model(first), Model(folder), told)


def _missed(models: Sequence[Measured], budget: Budget) -> Iterator[Missed]:
    """Of all but the first, which is what there was before."""
    for model in models[1:]:
        lost = None if model.gain is None else -model.gain
        found = {"max_drop": lost, "max_ms": model.alone.p50_ms, "max_mb": model.size_mb}
        for name, value in found.items():
            allowed = getattr(budget, name)
            if allowed is not None and value is not None and value > allowed:
                yield Missed(model.name, name, value, allowed)


def frontier(points: Sequence[tuple[float, float | None]], *, higher_is_better: bool) -> list[bool]:
    """Whether no other point costs as little and scores as well, and is better in one of these.

    points: (cost, score).
    """
    sign = 1.0 if higher_is_better else -1.0
    signed = [(cost, None if score is None else sign * score) for cost, score in points]
    return [
        score is not None
        and not any(
            other is not None
            and price <= cost
            and other >= score
            and (price < cost or other > score)
            for price, other in signed
        )
        for cost, score in signed
    ]
