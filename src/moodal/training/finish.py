"""A trained network to a bundle: export, check the export, calibrate on validation, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save as tensors_bytes

from moodal import bundle, text_metrics
from moodal.config import Run
from moodal.export import onnx, parity
from moodal.model.model import Network
from moodal.preprocess import batch
from moodal.runtime import calibrate, measure, reference
from moodal.runtime.characters import CharacterModel
from moodal.runtime.predict import BATCH_SIZE, Model, Outputs
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS, Answered, Head
from moodal.training import card
from moodal.training.examples import Parts
from moodal.training.loop import Job
from moodal.training.mixture import Mixture
from moodal.types import MAX_REJECTED, Modality, Record, Said, Seq, Subset

Array = NDArray[Any]

PARITY_BATCHES = 4
OUT = -1e9
"""The score of a label that does not compete: its probability is 0 at any temperature."""
FAMILIAR = 0.4
"""Of a foreign sentence a model of English and Chinese mostly knows less than this share of the
words; of 98 to 99.9 % of the texts in its own languages more. Measured: LOG.md."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from. hashes: train and valid -> sha256 of the manifest.
    history: one row an epoch. parents: the models it started from."""

    run: Run
    hashes: dict[str, str]
    history: list[dict[str, float]]
    parents: tuple[str, ...] = ()


def finish(job: Job, parts: Parts, origin: Origin, *, out: Path, scratch: Path) -> Model:
    """Save the bundle to `out`; scratch holds it until it is calibrated.

    Raises: ModelError when the exported graphs do not say what the network says; CapacityError.
    """
    network, valid = job.network.cpu().eval(), job.valid
    files = _files(parts, network, origin.run)
    info = bundle.save(scratch, _info(parts, network, origin, name=out.name), files)
    picked = valid.rows(0)[:: max(1, len(valid) // PARITY_BATCHES)][:PARITY_BATCHES]
    made = (valid.make(rows, 0) for rows in picked)
    parity.check(network, Sessions(scratch, info), ((b.inputs, b.targets) for b in made))
    outputs = list(_outputs(Model(scratch), parts))
    info = CALIBRATED[parts.task.head](info, outputs, parts, origin.run, valid.mixture)
    info = bundle.save(scratch, info, files)
    files[bundle.REFERENCE] = _reference(Model(scratch), outputs, parts).to_json()
    files[bundle.CARD] = card.write(info).encode("utf-8")
    bundle.save(out, info, files)
    return Model(out)


def _files(parts: Parts, network: Network, run: Run) -> dict[str, Any]:
    files: dict[str, Any] = dict(onnx.answer(network))
    for modality in network.modalities:
        files[bundle.encoder_file(modality)] = onnx.encoder(
            network, modality, example(parts, modality)
        )
    if parts.lexicon is not None:
        name = bundle.VOCABULARY if parts.vocabulary is not None else bundle.SYMBOLS
        files[name] = parts.lexicon.save
    if run.decode.language_order and parts.task.head == "frames":
        spoken = CharacterModel.fit(parts.train.texts, order=run.decode.language_order)
        files[bundle.LANGUAGE] = spoken.to_bytes()
    files[bundle.WEIGHTS] = tensors_bytes(
        {name: t.contiguous().clone() for name, t in network.state_dict().items()}
    )
    plain = run.model_dump(mode="json") | {"cache": None}  # a place on this machine alone
    for modality in network.modalities:  # so is this; the bundle holds what became of it
        plain[f"{modality}_encoder"]["weights"] = None
    files[bundle.CONFIG] = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).encode(
        "utf-8"
    )
    return files


def example(parts: Parts, modality: Modality) -> Seq[torch.Tensor]:
    """Two real rows: what the exporter traces."""
    given = parts.inputs[modality]
    seen = [a for a in parts.train.arrays[modality] if a is not None]
    x, mask = batch.pad([given.finish(a) for a in (seen[0], seen[-1])])
    return Seq(torch.from_numpy(x), torch.from_numpy(mask))


def _reference(model: Model, outputs: Sequence[Outputs], parts: Parts) -> reference.Reference:
    """What the validation part measures and is answered. model: calibrated; outputs: before."""
    kinds = parts.settings.kinds

    def rows() -> Iterator[reference.Seen]:
        for row, raw in enumerate(outputs):
            answer = model.tell(_calibrated_again(raw, model.info))
            noted: dict[str, float] = {}
            for modality, column in parts.valid.arrays.items():
                if (decoded := column[row]) is not None:
                    noted |= measure.note(modality, kinds[modality], decoded)
            measured = measure.measures(noted, raw, answer)
            if parts.vocabulary is None:
                measured.pop("text.known", None)  # it would be 1 of every row
            spoken = parts.valid.languages[row] if "text" in answer.modalities else None
            told = reference.counted(answer, "+".join(answer.modalities), spoken)
            yield reference.Seen(measured, told)

    return reference.of(rows())


def _calibrated_again(outputs: Outputs, info: bundle.Info) -> Outputs:
    """The scores that a model with this calibration would have given."""
    again = AGAIN[TASKS[info.task].head]
    return replace(
        outputs, scores={s: again(a, s, info) if s else a for s, a in outputs.raw.items()}
    )


def _info(parts: Parts, network: Network, origin: Origin, *, name: str) -> bundle.Info:
    prior = parts.task.prior(parts.train.labelled, parts.task.n_outputs(parts.labels))
    data = {
        part: {
            "sha256": origin.hashes[part],
            **counted.counts(),
            "rejections": [rejected.to_dict() for rejected in counted.rejected[:MAX_REJECTED]],
        }
        for part, counted in (("train", parts.train), ("valid", parts.valid))
    }
    return bundle.Info(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        moodal=version("moodal"),
        task=parts.task.name,
        labels=parts.labels,
        columns=origin.run.columns,
        kinds=dict(parts.settings.kinds),
        widths=dict(parts.settings.widths),
        text=parts.settings.text,
        image=parts.settings.image,
        audio=parts.settings.audio,
        encoding_width=network.width,
        aside={m: n - network.width for m, n in network.widths.items() if n > network.width},
        parameters=sum(p.numel() for p in network.parameters()),
        temperatures={},
        threshold=0.0,
        prior=tuple(prior.tolist()),
        data=data,
        scores={},
        history=tuple(origin.history),
        decode=origin.run.decode,
        stride=network.stride("audio") if "audio" in network.modalities else 1,
        parents=origin.parents,
    )


def _calibrated(
    info: bundle.Info,
    outputs: Sequence[Outputs],
    parts: Parts,
    run: Run,
    mixture: Mixture | None,
) -> bundle.Info:
    """Temperatures, threshold and scores from the validation part, through the exported graphs.

    Where a row's set lacks a label, that label does not compete here either.
    """
    task, labels, codes = parts.task, parts.labels, parts.valid.codes
    n_outputs = task.n_outputs(labels)
    among = np.ones((len(codes), n_outputs), np.bool_)
    if mixture is not None:
        among = mixture.weigh(parts.valid.groups, n_outputs) > 0
    raw: dict[Subset, tuple[Array, Array]] = {}
    for subset in batch.subsets(info.modalities):
        rows = [row for row, o in enumerate(outputs) if subset in o.raw]
        if rows:
            told = np.stack([outputs[row].raw[subset] for row in rows])
            raw[subset] = np.where(among[rows], told, OUT), codes[rows]
    found = calibrate.temperatures(task, raw)
    scores = {
        bundle.subset_name(s): task.score(c, task.activate(r, found[s]), labels)
        for s, (r, c) in raw.items()
    }
    whole = [list(o.raw)[-1] for o in outputs]
    answers = np.stack(
        [
            task.activate(np.where(seen, o.raw[s], OUT)[None], found[s])[0]
            for o, s, seen in zip(outputs, whole, among, strict=True)
        ]
    )
    scores["all"] = task.score(codes, answers, labels)
    confidence, right = answers.max(1), answers.argmax(1) == codes
    update = {
        "temperatures": {bundle.subset_name(s): t for s, t in found.items()},
        "threshold": calibrate.threshold(confidence, right, run.calibrate.precision)
        if labels
        else 0.0,
        "familiar": _familiar(parts),
        "scores": scores,
    }
    return info.model_copy(update=update)


def _calibrated_texts(
    info: bundle.Info,
    outputs: Sequence[Outputs],
    parts: Parts,
    run: Run,
    mixture: Mixture | None,
) -> bundle.Info:
    """The confidence of words, and scores, from the validation part, through the exported graphs.

    A word is right if it stands in the alignment of the answer with the target.
    """
    task, targets = parts.task, parts.valid.texts
    whole: list[Said] = [list(o.scores.values())[-1] for o in outputs]
    confidences, right = list[float](), list[bool]()
    for said, target in zip(whole, targets, strict=True):
        confidences += [token.confidence for token in said.tokens]
        right += text_metrics.matches(text_metrics.words(target), [t.text for t in said.tokens])
    found = calibrate.fit_confidence(np.array(confidences), np.array(right, np.bool_))
    judged: dict[str, list[Array]] = {"all": []}
    for output, target in zip(outputs, targets, strict=True):
        rows = {s: task.judge(target, _sure(said, found)) for s, said in output.scores.items() if s}
        for subset, row in rows.items():
            judged.setdefault(bundle.subset_name(subset), []).append(row)
        nothing = task.judge(target, task.nothing(np.zeros(1)))
        judged["all"].append(list(rows.values())[-1] if rows else nothing)
    scores = {
        name: task.score(np.zeros(len(rows)), np.stack(rows), parts.labels)
        for name, rows in judged.items()
    }
    return info.model_copy(update={"confidence": found, "scores": scores})


def _sure(said: Said, found: tuple[float, float]) -> Said:
    """With its words' calibrated confidence."""
    if not said.tokens:
        return said
    chances = calibrate.calibrated(np.array([t.confidence for t in said.tokens]), *found)
    return said._replace(confidence=float(chances.mean()))


Calibrate = Callable[[bundle.Info, Sequence[Outputs], Parts, Run, Mixture | None], bundle.Info]
CALIBRATED: dict[Head, Calibrate] = {
    "summary": _calibrated,
    "frames": _calibrated_texts,
    "decoder": _calibrated_texts,
}


def _score_again(raw: Array, subset: Subset, info: bundle.Info) -> Array:
    heat = info.temperatures.get(bundle.subset_name(subset), 1.0)
    return np.asarray(TASKS[info.task].activate(raw[None], heat)[0])


def _said_again(said: Said, subset: Subset, info: bundle.Info) -> Said:
    return _sure(said, info.confidence)


AGAIN: dict[Head, Callable[[Any, Subset, bundle.Info], Answered]] = {
    "summary": _score_again,
    "frames": _said_again,
    "decoder": _said_again,
}


def _familiar(parts: Parts) -> float:
    """The share of known words that all but 1 % of the validation texts reach, at most FAMILIAR."""
    if parts.vocabulary is None:
        return 0.0
    texts = [pieces for pieces in parts.valid.arrays.get("text", []) if pieces is not None]
    shares = [parts.vocabulary.known_share(pieces) for pieces in texts]
    return float(min(FAMILIAR, np.quantile(shares, 0.01))) if shares else 0.0


def _outputs(model: Model, parts: Parts) -> Iterator[Outputs]:
    """The run-time's outputs of the validation examples, from their decoded arrays."""
    columns = parts.valid.arrays
    for start in range(0, len(parts.valid), BATCH_SIZE):
        rows = range(start, min(start + BATCH_SIZE, len(parts.valid)))
        arrays = [
            {m: parts.inputs[m].finish(a) for m, c in columns.items() if (a := c[row]) is not None}
            for row in rows
        ]
        records = [Record(str(row), parts.valid.read.get(row)) for row in rows]
        yield from model.answer(records, arrays)
