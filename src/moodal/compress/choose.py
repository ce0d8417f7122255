"""Which layers are computed in integers: those of graphs that become faster by it, but for the
layers that cost the score too much."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tqdm import tqdm

from moodal.compress import arithmetic, measure, weights
from moodal.compress.arithmetic import Prepared
from moodal.runtime.session import Feeds

Array = NDArray[Any]
Compute = Literal["auto", "int8", "float32"]
"""auto: in integers where that is faster, on this machine; int8: wherever it can be."""

FASTER = 1.1
"""A graph is computed in integers only if it is this many times as fast: less is within what two
runs differ by, and is not worth any loss."""
JUDGED = 32
"""Feeds that a layer's harm, and a graph's speed, is measured on."""


@dataclass(frozen=True, slots=True)
class Layer:
    """harm: the squared error of its graph's output when this layer alone is computed in integers,
    as a share of its squares; None where it was not asked. why: it is left in float32."""

    graph: str
    name: str
    operator: str
    arithmetic: Literal["float32", "int8"]
    harm: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """A graph's median time in float32 and with all its layers in integers."""

    graph: str
    float32_ms: float
    int8_ms: float
    faster: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """graphs: file -> content. scores: before, and at each try, the layers left alone so far."""

    graphs: Mapping[str, bytes]
    layers: tuple[Layer, ...]
    timed: tuple[Timed, ...]

    @property
    def computes(self) -> bool:
        return any(layer.arithmetic == "int8" for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "timed": [asdict(timed) for timed in self.timed],
        }


Drop = Callable[[Mapping[str, bytes]], float]
"""Graphs -> how much worse the model is with them, in units of the score."""


@dataclass(slots=True)
class _Candidates:
    """What is still open. prepared: file -> graph and ranges; layers: by file and node."""

    prepared: dict[str, Prepared]
    layers: dict[tuple[str, str], Layer]

    def graphs(self) -> dict[str, bytes]:
        return {
            name: arithmetic.computed(graph, self.computed(name))
            for name, graph in self.prepared.items()
        }

    def computed(self, graph: str) -> list[str]:
        return [
            layer.name
            for layer in self.layers.values()
            if layer.graph == graph and layer.arithmetic == "int8"
        ]

    def leave(self, keys: Collection[tuple[str, str]], why: str) -> None:
        for key in keys:
            self.layers[key] = replace(self.layers[key], arithmetic="float32", why=why)


def choose(
    graphs: Mapping[str, bytes],
    feeds: Mapping[str, Sequence[Feeds]],
    drop: Drop,
    *,
    compute: Compute,
    max_drop: float,
) -> Chosen:
    """graphs: file -> content, in float32. feeds: of each, by calibration rows.

    The layers that do most harm alone are left in float32, twice as many at each try, until the
    model is no more than max_drop worse.
    """
    found = {n: arithmetic.prepare(c, feeds[n]) for n, c in graphs.items() if feeds.get(n)}
    open_ = _Candidates(
        found,
        {
            (graph, name): Layer(graph, name, operator, "int8")
            for graph, prepared in found.items()
            for name, operator in prepared.layers.items()
        },
    )
    timed = () if compute == "float32" else _time(open_, graphs, feeds)
    _leave_slow(open_, timed, compute)
    _measure_harm(open_, graphs, feeds)
    _leave_harmful(open_, drop, max_drop)
    written = open_.graphs()
    rest = {n: written.get(n) or weights.graph(c) for n, c in graphs.items()}
    return Chosen(rest, tuple(open_.layers.values()), timed)


def _time(
    open_: _Candidates, graphs: Mapping[str, bytes], feeds: Mapping[str, Sequence[Feeds]]
) -> tuple[Timed, ...]:
    found = []
    for name, prepared in open_.prepared.items():
        if not prepared.layers:
            continue
        content = arithmetic.computed(prepared, prepared.layers)
        sessions = [session(graphs[name]), session(content)]
        some = feeds[name][:JUDGED]
        seconds = measure.interleaved([[partial(s.run, None, f) for f in some] for s in sessions])
        slow, fast = (1e3 * float(np.median(mine)) for mine in seconds)
        ratio = float(np.median(seconds[0] / seconds[1]))
        found.append(Timed(name, slow, fast, ratio))
    return tuple(found)


def _leave_slow(open_: _Candidates, timed: Sequence[Timed], compute: Compute) -> None:
    if compute == "float32":
        open_.leave(list(open_.layers), "weights alone were asked for")
    for one in timed:
        if compute == "auto" and one.faster < FASTER:
            why = (
                f"not worth it here: its graph takes {one.int8_ms:.3g} ms in integers, "
                f"{one.float32_ms:.3g} ms in float32"
            )
            open_.leave([key for key in open_.layers if key[0] == one.graph], why)


def _measure_harm(
    open_: _Candidates, graphs: Mapping[str, bytes], feeds: Mapping[str, Sequence[Feeds]]
) -> None:
    """Of each layer that may be computed in integers, it alone."""
    for graph, prepared in open_.prepared.items():
        names, some = open_.computed(graph), feeds[graph][:JUDGED]
        if not names:
            continue
        whole = _answers(graphs[graph], some)
        for name in tqdm(names, graph, unit=" layers", delay=2, leave=False, disable=None):
            told = _answers(arithmetic.computed(prepared, [name]), some)
            key = graph, name
            open_.layers[key] = replace(open_.layers[key], harm=_harm(whole, told))


def _leave_harmful(open_: _Candidates, drop: Drop, max_drop: float) -> None:
    at_once = 1
    while keys := [key for key, layer in open_.layers.items() if layer.arithmetic == "int8"]:
        lost = drop(open_.graphs())
        if lost <= max_drop:
            return
        keys.sort(key=lambda key: -(open_.layers[key].harm or 0.0))
        why = f"with it the score was {lost:.4f} worse, at most {max_drop:.4f} is allowed"
        open_.leave(keys[:at_once], why)
        at_once *= 2


def session(content: bytes) -> ort.InferenceSession:
    """A graph to be run on one thread, integers left as they are."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _answers(content: bytes, feeds: Sequence[Feeds]) -> list[list[Array]]:
    """Output -> of each feed; those that are no numbers (masks, symbols) left out."""
    ran = session(content)
    told = zip(*(ran.run(None, some) for some in feeds), strict=True)
    return [list(output) for output in told if output[0].dtype == np.float32]


def _harm(whole: Sequence[Sequence[Array]], told: Sequence[Sequence[Array]]) -> float:
    """The squared error over all feeds as a share of the squares, of the output that errs most."""
    return max(map(_error, whole, told))


def _error(whole: Sequence[Array], told: Sequence[Array]) -> float:
    error = size = 0.0
    for right, found in zip(whole, told, strict=True):
        counted = np.isfinite(right) & np.isfinite(found)
        error += float(np.square(right[counted] - found[counted], dtype=np.float64).sum())
        size += float(np.square(right[counted], dtype=np.float64).sum())
    return error / size if size else 0.0
