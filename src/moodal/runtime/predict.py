"""The one predict: records in, answers out, each as if it were alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from moodal import bundle
from moodal.errors import ConfigError, ModelError, RecordError
from moodal.preprocess import batch
from moodal.preprocess.symbols import Symbols
from moodal.preprocess.vocabulary import Vocabulary
from moodal.runtime import characters, measure, regions
from moodal.runtime.explain import hide_each, shapley, words_held
from moodal.runtime.given import as_record
from moodal.runtime.session import Sessions, spread
from moodal.runtime.tell import Asked, Teller, score
from moodal.runtime.windows import windows
from moodal.tasks import TASKS, Answered, Decoded
from moodal.types import (
    Media,
    Modality,
    Prediction,
    Reason,
    Record,
    Rejection,
    Seq,
    Subset,
    Text,
)

Array = NDArray[Any]

BATCH_SIZE = 32
WORDS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the head says of one record, for every subset of the modalities it has.

    scores: subset -> (C,) calibrated probabilities, the value, or what was Said; the last is the
    full answer. raw: the same before calibration (of a text there is no other). known: share of
    known words in the text, in [0, 1]. pooled: modality -> (D,) float32, the mean of its encoding.
    A record that says nothing has the answer of the empty subset alone.
    """

    record: Record
    scores: Mapping[Subset, Answered]
    raw: Mapping[Subset, Answered]
    known: float
    pooled: Mapping[Modality, Array] = field(default_factory=dict)


class Read(NamedTuple):
    """A record that was read. record: with the words of its recording, where a transcriber hears
    them. noted: what is measured of what was decoded, as runtime.measure.read has it."""

    record: Record
    arrays: dict[Modality, Array]
    noted: dict[str, float]


class Model:
    """A bundle, loaded. Its graphs are read when a record first needs them.

    folder: a trained model. threads: of ONNX Runtime. transcriber: a model that writes speech down;
    the words of a recording are then read as the text of a record that has none. limit_seconds:
    longer recordings are refused, even where the model would read them. sessions: graphs to answer
    with, where they are watched or others are tried; None = the folder's own.
    Raises: ModelError when the folder is no bundle, or a file of it has changed, or the transcriber
        is none; ConfigError when there is one and this model reads no words.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 1,
        transcriber: Model | None = None,
        limit_seconds: float = math.inf,
        sessions: Sessions | None = None,
    ) -> None:
        self.folder = folder
        self.info = bundle.load(folder)
        self._task = TASKS[self.info.task]
        lexicon = bundle.lexicon(folder, self.info)
        self._vocabulary = lexicon if isinstance(lexicon, Vocabulary) else None
        settings, sound = self.info.settings, self.info.audio
        limit_seconds = min(limit_seconds, sound.limit_seconds)
        sound = sound.model_copy(update={"limit_seconds": limit_seconds})
        self._inputs = batch.build(replace(settings, audio=sound), lexicon)
        self._sessions = sessions or Sessions(folder, self.info, threads=threads)
        self._transcriber = transcriber
        if transcriber is not None:
            _check_transcriber(transcriber, self)
        symbols = lexicon if isinstance(lexicon, Symbols) else None
        self._teller = Teller(self._sessions, self.info, symbols, _language(folder, self.info))

    def predict(
        self,
        *,
        text: Text | None = None,
        image: Media | str | None = None,
        audio: Media | str | None = None,
        explain: bool = False,
    ) -> Prediction:
        """One answer, from whatever is given.

        text: a string, or features (D,) or (S, D). image, audio: a path, the bytes of a file, or
        features; an image may also be an array (H, W, 3) uint8.
        explain: also say which words, and which regions of the picture, moved the answer.

        Raises: RecordError when what is given cannot be read, or the model reads none of it.
        """
        given = {"text": text, "image": image, "audio": audio}
        answer = next(self.predict_many([given], explain=explain))
        if isinstance(answer, Rejection):
            raise RecordError(answer.reason, field=answer.field)
        return answer

    def predict_many(
        self,
        records: Iterable[Record | Rejection | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
        explain: bool = False,
    ) -> Iterator[Prediction | Rejection]:
        """Answers in the order of the records, streamed; a bad record is a Rejection in its place.

        records: Records, or mappings with any of id, text, image, audio: what `predict` takes, and
        lists of numbers for features; None, NaN and, of media, "" are an absent modality.
        """
        for outputs in self.outputs(records, batch_size=batch_size):
            yield (
                outputs if isinstance(outputs, Rejection) else self.tell(outputs, explain=explain)
            )

    def outputs(
        self,
        records: Iterable[Record | Rejection | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Outputs | Rejection]:
        """As predict_many, but every subset's scores rather than a decoded answer."""
        source = enumerate(records)
        while chunk := [as_record(given, row) for row, given in islice(source, batch_size)]:
            yield from self._outputs(chunk)

    def warm(self) -> None:
        """Read every graph now, the transcriber's too, rather than at the first record that needs
        it; after this, threads may share the model."""
        self._sessions.warm()
        if self._transcriber is not None:
            self._transcriber.warm()

    def read(self, record: Record) -> Read:
        """The first half of an answer, `answer` being the second: it decodes files.

        Raises: RecordError when what is given cannot be read, or the model reads none of it.
        """
        [heard] = self._with_words([record])
        assert isinstance(heard, Record), "what was a record stays one"
        if heard.audio is not None:
            return Read(heard, *measure.read(heard, self._inputs))
        # All but frames can be measured as the encoders read them, which is quicker.
        arrays, noted = batch.arrays(heard, self._inputs), dict[str, float]()
        for modality, array in arrays.items():
            noted |= measure.note(modality, self._inputs[modality].kind, array)
        return Read(heard, arrays, noted)

    def _with_words(self, chunk: Sequence[Record | Rejection]) -> Sequence[Record | Rejection]:
        """What is said in a recording as the text of a record that has none."""
        if self._transcriber is None:
            return chunk
        wanted = {
            row: Record(r.id, audio=r.audio)
            for row, r in enumerate(chunk)
            if isinstance(r, Record) and r.text is None and isinstance(r.audio, Path | bytes)
        }
        heard = dict(zip(wanted, self._transcriber.predict_many(wanted.values()), strict=True))
        words = {r: a.text for r, a in heard.items() if isinstance(a, Prediction) and a.text}
        return [
            replace(given, text=words[row]) if row in words and isinstance(given, Record) else given
            for row, given in enumerate(chunk)
        ]

    def _outputs(self, chunk: Sequence[Record | Rejection]) -> list[Outputs | Rejection]:
        results: list[Outputs | Rejection | None] = []
        readable: list[Record] = []
        arrays: list[dict[Modality, Array]] = []
        for given in self._with_words(chunk):
            try:
                if isinstance(given, Record):
                    arrays.append(batch.arrays(given, self._inputs))
                    readable.append(given)
                results.append(given if isinstance(given, Rejection) else None)
            except RecordError as error:
                results.append(error.rejection(given.id, given.source))
        answered = iter(self.answer(readable, arrays))
        return [next(answered) if result is None else result for result in results]

    def answer(
        self, records: Sequence[Record], arrays: Sequence[dict[Modality, Array]]
    ) -> list[Outputs]:
        """Outputs of records whose arrays are ready, as preprocess.batch.arrays makes them."""
        if not records:
            return []
        asked = [(row, s) for row, a in enumerate(arrays) for s in batch.subsets(tuple(a))]
        scores: list[dict[Subset, Answered]] = [{} for _ in records]
        raws: list[dict[Subset, Answered]] = [{} for _ in records]
        encoded = self._encode(arrays) if asked else {}
        told = self._teller.tell(Asked(records, arrays, encoded, asked)) if asked else ()
        means = {m: _mean(seq) for m, seq in encoded.items()}
        for (row, subset), (raw, answered) in zip(asked, told, strict=True):
            raws[row][subset], scores[row][subset] = raw, answered
        known = [1.0] * len(records)
        if self._vocabulary is not None:
            known = [self._vocabulary.known_share(a["text"]) if "text" in a else 1 for a in arrays]
        prior: dict[Subset, Answered] = {(): self._task.nothing(np.array(self.info.prior))}
        return [
            Outputs(
                record,
                scores[row] or prior,
                raws[row] or prior,
                known[row],
                {m: mean[row] for m, mean in means.items() if m in arrays[row]},
            )
            for row, record in enumerate(records)
        ]

    def _encode(self, arrays: Sequence[dict[Modality, Array]]) -> dict[Modality, Seq[Array]]:
        """Encodings of the rows that have a modality, laid into a batch of all rows."""
        encoded: dict[Modality, Seq[Array]] = {}
        for modality in self.info.modalities:
            rows = [row for row, a in enumerate(arrays) if modality in a]
            if not rows:
                continue
            part = self._encode_rows(modality, [arrays[r][modality] for r in rows])
            encoded[modality] = spread(part, rows, len(arrays))
        return encoded

    def _encode_rows(self, modality: Modality, items: Sequence[Array]) -> Seq[Array]:
        """Encodings (b, S', D); what is longer than the encoder reads at once, in windows."""
        window = self.info.settings.windows.get(modality)
        if window is None or max(map(len, items)) <= window:
            return self._sessions.encode(modality, batch.pad(items))
        stride = self.info.stride if modality == "audio" else 1
        return batch.pad([self._in_windows(modality, item, window, stride) for item in items])

    def _in_windows(self, modality: Modality, item: Array, window: int, stride: int) -> Array:
        """(S, ...) -> (S', D): windows that overlap, of each what is not near its cut ends."""
        parts = []
        cuts = windows(len(item), window, stride)
        for cut in tqdm(cuts, "reading", unit=" windows", delay=2, leave=False, disable=None):
            x, _ = self._sessions.encode(modality, batch.pad([item[cut.start : cut.stop]]))
            first = (cut.first - cut.start) // stride
            parts.append(x[0, first : first + -(-(cut.last - cut.first) // stride)])
        return np.concatenate(parts)

    def tell(self, outputs: Outputs, *, explain: bool = False) -> Prediction:
        """The decoded answer. explain: as predict."""
        info, present = self.info, list(outputs.scores)[-1]
        decoded = self._task.decode(outputs.scores[present], info.labels)
        reason = self._reason(outputs, decoded)
        worth: dict[Subset, float] = {(): info.prior[decoded.index]}
        worth |= {s: self._task.worth(said, decoded.index) for s, said in outputs.scores.items()}
        return Prediction(
            id=outputs.record.id,
            label=decoded.label,
            value=decoded.value,
            probabilities=decoded.probabilities,
            confidence=decoded.confidence,
            text=decoded.text,
            tokens=decoded.tokens,
            modalities=present,
            contributions=shapley(worth, present),
            words=self._words(outputs, present, decoded) if explain and present else (),
            regions=self._regions(outputs, present, decoded) if explain else (),
            abstain=bool(reason),
            reason=reason,
        )

    def _reason(self, outputs: Outputs, decoded: Decoded) -> Reason:
        """Why not to act on an answer, the plainest reason first."""
        if () in outputs.scores or decoded.text == "":
            return "empty"
        if outputs.known < self.info.familiar:
            return "unfamiliar"
        unsure = decoded.label is not None and decoded.confidence < self.info.threshold
        return "unsure" if unsure else ""

    def _words(
        self, outputs: Outputs, present: Subset, decoded: Decoded
    ) -> tuple[tuple[str, float], ...]:
        """How much the answer's score falls when one word is hidden from the text.

        Source: Li, Monroe, Jurafsky, Understanding Neural Networks through Representation
        Erasure (2016), equation 1, as a difference rather than a ratio.
        """
        if self._vocabulary is None or "text" not in present:
            return ()
        assert isinstance(outputs.record.text, str), "a vocabulary reads nothing else"
        words = self._vocabulary.words(outputs.record.text)
        if len(words) > 1:
            without = self._without_each(outputs.record, present)[:, decoded.index]
        else:  # hidden, it leaves what the others say, or nothing at all
            others = tuple(m for m in present if m != "text")
            scores = outputs.scores[others] if others else np.array(self.info.prior)
            without = scores[None, decoded.index]
        full = float(outputs.scores[present][decoded.index])
        return tuple((word, full - float(w)) for word, w in zip(words, without, strict=True))

    def _regions(self, outputs: Outputs, present: Subset, decoded: Decoded) -> regions.Weights:
        """How much the answer's score falls when one part of the picture is hidden; a text would
        have to be searched for anew each time."""
        if (
            decoded.text is not None
            or "image" not in present
            or self._inputs["image"].kind != "picture"
        ):
            return ()
        arrays = batch.arrays(outputs.record, self._inputs)
        hidden = regions.hide_each(arrays.pop("image"))
        without = self._instead("image", hidden, arrays, present)[:, decoded.index]
        return regions.weights(float(outputs.scores[present][decoded.index]) - without)

    def _without_each(self, record: Record, present: Subset) -> Array:
        """(S, C): the answer with position s of the text hidden."""
        arrays = batch.arrays(record, self._inputs)
        pieces = arrays.pop("text")
        assert self._vocabulary is not None, "asked of a model that reads words"
        n_words = words_held(pieces, self._vocabulary)
        starts = range(0, len(pieces), WORDS_AT_ONCE)
        positions = (np.arange(s, min(s + WORDS_AT_ONCE, len(pieces))) for s in starts)
        hidden = (hide_each(pieces, n_words, some) for some in positions)
        return self._instead("text", hidden, arrays, present)

    def _instead(
        self,
        modality: Modality,
        variants: Iterable[Seq[Array]],
        arrays: dict[Modality, Array],
        present: Subset,
    ) -> Array:
        """(n, C): the answer to each of n variants of one modality, beside the others' arrays."""
        others = self._encode([arrays]) if arrays else {}
        temperature = self.info.temperatures.get(bundle.subset_name(present), 1.0)
        answers = []
        for variant in variants:
            n = len(variant.x)
            encoded = {
                m: Seq(np.repeat(s.x, n, 0), np.repeat(s.mask, n, 0)) for m, s in others.items()
            }
            encoded[modality] = self._sessions.encode(modality, variant)
            raw = score(self._teller, encoded, [(row, present) for row in range(n)])
            answers.append(self._task.activate(raw, temperature))
        return np.concatenate(answers)


def _mean(encoded: Seq[Array]) -> Array:
    """(B, S, D) -> (B, D) over the real positions; of a row without one, zeros."""
    real = encoded.mask.astype(np.float32)
    counts = np.maximum(real.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(np.matmul((real / counts)[:, None], encoded.x)[:, 0])


def _check_transcriber(ears: Model, model: Model) -> None:
    """Raises: ModelError, ConfigError."""
    if TASKS[ears.info.task].head != "frames":
        raise ModelError(
            f"{ears.folder}: was trained for task={ears.info.task} and writes no speech down; name "
            "a model of recordings and their transcripts"
        )
    if model.info.kinds.get("text") not in ("tokens", "symbols"):
        raise ConfigError(
            f"{model.folder}: reads {', '.join(model.info.modalities)} and no words; leave the "
            "transcriber out"
        )


def _language(folder: Path, info: bundle.Info) -> characters.CharacterModel | None:
    if bundle.LANGUAGE not in info.files:
        return None
    return characters.CharacterModel.parse(bundle.read(folder, info, bundle.LANGUAGE))
