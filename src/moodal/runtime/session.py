"""ONNX graphs: one an encoder, one for fusion + head; loaded when first needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import bundle
from moodal.types import Modality, Seq

# Since 1.29 it writes a device's id and sends what it runs to Microsoft, unless told not to before
# it is imported. Source: https://github.com/microsoft/onnxruntime/pull/27379.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Watch = Callable[[str, Feeds], None]
"""Is shown every run of a graph beforehand: its file and what it is fed."""

MEMORY = ("x", "keys", "mask", "source")
"""What a text's decoder looks at in every step."""


def spread(part: Seq[Array], rows: Sequence[int] | Array, n_rows: int) -> Seq[Array]:
    """Encodings of some rows (b, S, D), laid into a batch of n_rows; the others are absent."""
    x = np.zeros((n_rows, *part.x.shape[1:]), np.float32)
    mask = np.zeros((n_rows, part.mask.shape[1]), np.bool_)
    x[rows], mask[rows] = part
    return Seq(x, mask)


class Sessions:
    """The graphs of one bundle. A graph that is never asked for is never read.

    threads: ONNX Runtime's threads within an operator. watch: whoever wants to know what is run.
    """

    def __init__(
        self, folder: Path, info: bundle.Info, *, threads: int = 1, watch: Watch | None = None
    ) -> None:
        self._folder, self._info, self._threads, self._watch = folder, info, threads, watch
        self._open: dict[str, ort.InferenceSession] = {}

    def encode(self, modality: Modality, batch: Seq[Array]) -> Seq[Array]:
        """x (B, S, ...), mask (B, S) -> x (B, S', D) float32, mask (B, S')."""
        return Seq(*self.run(bundle.encoder_file(modality), {"x": batch.x, "mask": batch.mask}))

    def answer(self, encodings: Mapping[Modality, Seq[Array]]) -> Array:
        """Encodings of every modality the model knows -> raw scores (B, C)."""
        feeds = {f"{m}_{part}": a for m, e in encodings.items() for part, a in e._asdict().items()}
        return np.asarray(self.run(bundle.HEAD, feeds)[0])

    def frames(self, sound: Seq[Array]) -> Seq[Array]:
        """Encodings of sound -> (B, T, C) raw scores of the symbols at each frame."""
        return Seq(*self.run(bundle.HEAD, {"x": sound.x, "mask": sound.mask}))

    def remember(self, source: Array, encodings: Mapping[Modality, Seq[Array]]) -> list[Array]:
        """source: (B, S) symbols of the text, and encodings of every modality the model knows ->
        what `step` looks at: x, keys, mask, source, and the first state (B, Z)."""
        feeds = {f"{m}_{part}": a for m, e in encodings.items() for part, a in e._asdict().items()}
        return self.run(bundle.HEAD, {"source": source, **feeds})

    def step(self, previous: Array, state: Array, memory: Sequence[Array]) -> list[Array]:
        """previous: (N,) symbols, state: (N, Z) -> log-probabilities (N, C), state, attention."""
        feeds = dict(zip(MEMORY, memory, strict=True)) | {"previous": previous, "state": state}
        return self.run(bundle.STEP, feeds)

    def run(self, name: str, feeds: Feeds) -> list[Array]:
        """All that one graph gives."""
        if self._watch is not None:
            self._watch(name, feeds)
        told: list[Array] = self._graph(name).run(None, feeds)
        return told

    def put(self, name: str, content: bytes) -> None:
        """Run another graph in this one's place from now on: how one is tried before it is kept."""
        self._open[name] = self._session(content)

    def absent(self, modality: Modality, rows: int) -> Seq[Array]:
        """What stands for a modality that no row of a batch has."""
        width = self._info.encoding_width + self._info.aside.get(modality, 0)
        return Seq(np.zeros((rows, 1, width), np.float32), np.zeros((rows, 1), np.bool_))

    def warm(self) -> None:
        """Read every graph now, not at the first record."""
        for name in self._info.files:
            if name.endswith(".onnx"):
                self._graph(name)

    def _graph(self, name: str) -> ort.InferenceSession:
        if name not in self._open:
            self._open[name] = self._session(bundle.read(self._folder, self._info, name))
        return self._open[name]

    def _session(self, content: bytes) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Where integers are only how weights are kept, they become floats once, at loading, not in
        # every answer.
        floats = self._info.arithmetic == "float32"
        options.add_session_config_entry("session.disable_quant_qdq", "1" if floats else "0")
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
