"""How far what is served lies from the reference: PSI and KS of each measure, PSI of each count.

Letters: n rows served, m rows of the reference, B bins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal

from moodal.runtime.reference import Reference, Spread
from moodal.types import MODALITIES

State = Literal["steady", "drifting", "few"]

PSI_LIMIT = 0.25
"""From here on a population has shifted. Source: Siddiqi, Credit Risk Scorecards (2006): under 0.1
no change, 0.1 to 0.25 some, above 0.25 major."""
CHANCE = 1e-3
"""How often a measure that has not changed may exceed what is asked of it by chance alone."""
FEW = 100
"""Under this many rows nothing is said."""
BINS = 10
"""Of a measure: the reference's deciles."""
HALF = 0.5
"""Added to every bin, so that an empty one is finite. Source: Krichevsky and Trofimov, The
performance of universal encoding (IEEE Trans. Inf. Theory 1981)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One measure, or one count (of labels, reasons, languages, modalities).

    modality: "" where it is of the whole record. psi_limit, ks_limit: from there on it drifts, both
    together. ks, ks_limit: None of a count, and of no rows. n: rows served that have it.
    """

    measure: str
    modality: str
    psi: float
    psi_limit: float
    ks: float | None
    ks_limit: float | None
    n: int
    state: State

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Tally:
    """What is kept of the rows served: how many fell where, however many they are."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._cells = {name: [0] * (len(s.values) + 2) for name, s in reference.measures.items()}
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in reference.counts}

    def add(self, measures: Mapping[str, float], counted: Mapping[str, str]) -> None:
        """counted: as reference.counted has it. What the reference lacks is passed over."""
        for name, value in measures.items():
            if name in self._cells:
                self._cells[name][self._reference.measures[name].cell(value)] += 1
        for name, held in counted.items():
            if name in self._counts:
                self._counts[name][held] += 1

    def drifts(self) -> list[Drift]:
        """Of everything in the reference: what drifts first, then by PSI."""
        held = self._reference
        found = [
            of_measure(name, held.measures[name], cells) for name, cells in self._cells.items()
        ]
        found += [
            of_count(name, held.counts[name], counts)
            for name, counts in self._counts.items()
            if held.counts[name]
        ]
        return sorted(found, key=lambda d: (d.state != "drifting", d.state == "few", -d.psi))


def of_measure(name: str, spread: Spread, cells: Sequence[int]) -> Drift:
    """cells: len(values) + 2 counts, as Spread.cell numbers them."""
    n = sum(cells)
    expected, found = _binned(spread, cells)
    modality = name.partition(".")[0]
    return _drift(
        (name, modality if modality in MODALITIES else ""),
        psi(expected, found),
        chance_psi(n, spread.n, len(expected)),
        (ks(spread, cells), ks_limit(n, spread.n)) if n else None,
        n,
    )


def of_count(name: str, expected: Mapping[str, int], found: Mapping[str, int]) -> Drift:
    """By value, in the reference and in what was served."""
    values = sorted({*expected, *found})
    bins = [expected.get(v, 0) for v in values], [found.get(v, 0) for v in values]
    n, m = sum(found.values()), sum(expected.values())
    return _drift((name, ""), psi(*bins), chance_psi(n, m, len(values)), None, n)


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """The population stability index: the sum over B bins of (q - p) ln(q / p), p and q being the
    shares of the reference and of what was served, each with HALF a row more.

    Source: Kullback and Leibler, On information and sufficiency (1951), J(1, 2); as an index of
    stability, Lewis, An Introduction to Credit Scoring (1994).
    """
    n_bins = len(expected)
    m, n = sum(expected) + HALF * n_bins, sum(found) + HALF * n_bins
    shares = ((((e + HALF) / m), ((f + HALF) / n)) for e, f in zip(expected, found, strict=True))
    return sum((q - p) * math.log(q / p) for p, q in shares)


def chance_psi(n: int, m: int, bins: int) -> float:
    """What PSI exceeds in CHANCE of the cases where nothing has changed: (1/n + 1/m) times that
    quantile of chi-square with B - 1 degrees of freedom.

    Source: Yurdakul, Statistical Properties of Population Stability Index (2018).
    """
    return (1 / n + 1 / m) * chi_square(1 - CHANCE, bins - 1) if n and m and bins > 1 else 0.0


def chi_square(share: float, freedom: int) -> float:
    """A quantile of chi-square. Source: Wilson and Hilferty, The distribution of chi-square (PNAS
    1931): the cube root is nearly normal."""
    spread = 2 / (9 * freedom)
    root = 1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)
    return float(freedom * max(root, 0.0) ** 3)


def ks(spread: Spread, cells: Sequence[int]) -> float:
    """The Kolmogorov-Smirnov distance: the farthest that the two shares of rows up to a value are
    apart, over the reference's percentiles; at most one step of them too little."""
    n, below = sum(cells), cells[0]
    farthest = below / n  # just under the least of the reference, where it has none
    for share, count in zip(spread.shares, cells[1:], strict=False):
        below += count
        farthest = max(farthest, abs(below / n - share))
    return farthest


def ks_limit(n: int, m: int) -> float:
    """What the distance exceeds in CHANCE of the cases where nothing has changed.

    Source: Smirnov, Table for estimating the goodness of fit of empirical distributions (1948),
    the first term of the limit: 2 exp(-2 x^2), x = D sqrt(n m / (n + m)).
    """
    return math.sqrt(-math.log(CHANCE / 2) / 2 * (n + m) / (n * m))


def _drift(
    named: tuple[str, str],
    index: float,
    chance: float,
    distance: tuple[float, float] | None,
    n: int,
) -> Drift:
    limit = max(PSI_LIMIT, chance)
    apart, far = distance or (None, None)
    index = index if n else 0.0
    state: State = "few"
    if n >= FEW:
        drifts = index >= limit and (apart is None or far is None or apart > far)
        state = "drifting" if drifts else "steady"
    return Drift(*named, index, limit, apart, far, n, state)


def _binned(spread: Spread, cells: Sequence[int]) -> tuple[list[int], list[int]]:
    """Counts by decile of the reference, equal ones merged; of a constant: below, at, above it."""
    m = spread.n
    upto = [round(share * m) for share in spread.shares]
    ends = sorted(set(_deciles(spread)))
    if not ends:
        return [0, m, 0], [cells[0], sum(cells[1:-1]), cells[-1]]
    edges = [0, *(end + 2 for end in ends), len(cells)]
    found = [sum(cells[a:b]) for a, b in pairwise(edges)]
    marks = [0, *(upto[end] for end in ends), m]
    return [b - a for a, b in pairwise(marks)], found


def _deciles(spread: Spread) -> Iterator[int]:
    """Places of the values up to which a tenth, two tenths ... lie, but all never do."""
    for step in range(1, BINS):
        place = next(i for i, share in enumerate(spread.shares) if share >= step / BINS)
        if spread.shares[place] < 1.0:
            yield place
