"""Train the base model: an encoder a modality, each on its own sets, then all of them together.

    python -m recipes.base.train DATA OUT [--stage text ...] [--casia-speaker NAME] [--oasis-fold K]

DATA holds the data sets of sets.py. OUT/models/STAGE is each stage's model; OUT/models/base is the
last one with its weights as 8-bit integers, the one that goes into the package. Of each stage's
rows, OUT/STAGE/shown.jsonl is what it learns from, and taught.jsonl the same with the
answers of teachers, which are in OUT/text/answered-LANGUAGE-SEED.jsonl, or of a stage before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import moodal
from moodal import bundle
from moodal.compress.quantise import quantise
from moodal.errors import DataError
from moodal.types import Modality, Prediction
from recipes.base import experts, manifests, names, outliers, phrases, sets, specialists

SEED = 0
TEACHERS = (("zh", 0), ("zh", 1), ("en", 0), ("en", 1))
"""Language and seed, the longest first. Of the answers of two the mean is taken: what one of them
knows of rare words is partly chance."""
PHOTOGRAPHS = "photographs.safetensors"
VOICES = "voices.safetensors"
Row = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """modalities: what it reads, and whose outliers it is shown. start: stages whose encoders it
    begins with. rows: the file it learns from, in OUT."""

    name: str
    modalities: tuple[str, ...]
    settings: tuple[str, ...]
    rows: str
    start: tuple[str, ...] = ()


# Every stage mixes sets of unlike sizes; the best epoch is that of the best mean over them.
MIXED = ("train.mixture=0.5", "train.class_weights=0.5", f"train.seed={SEED}", "train.patience=99")
WORDS = ("train.batch_size=256", "train.learning_rate=2e-3", "train.average=0.998")
TEXT = Stage(
    "text",
    ("text",),
    (
        *MIXED,
        *WORDS,
        "text.vocabulary=150000",
        "text.min_count=3",
        "text_encoder.kind=cnn",
        "text_encoder.layers=2",
        "text_encoder.dropout=0.4",
        "train.epochs=1",
    ),
    rows="text/shown.jsonl",
)
# The words of its own are those of real texts, as they stand in the stage before.
TAUGHT = Stage(
    "taught",
    ("text",),
    # Made texts are many, and real ones would be drawn too often by the root of their number.
    (*MIXED, "train.mixture=0.6", *WORDS, "train.epochs=2"),
    rows="text/taught.jsonl",
    start=("text",),
)
FOLDS = 5
"""Of the pairs, whose words and pictures are told by what did not see them."""
OFTEN = 4
"""A picture of a pair stands there by itself; once, too few would be drawn to learn from."""
WIDTH = 128
"""Of the encoder of faces."""
IMAGE = Stage(
    "image",
    ("image",),
    (
        *MIXED,
        "train.mixture=0.7",
        "train.class_weights=0",
        "image.size=48",
        f"image_encoder.width={WIDTH}",
        "train.epochs=40",
        "train.average=0.998",
        "train.batch_size=128",
        "train.learning_rate=3e-3",
        "train.l2=0.05",
        "train.warmup=0.1",
        "train.label_smoothing=0.1",
    ),
    rows="image/shown.jsonl",
)
# The same once more, of labels and of what the stage before makes of the faces.
FACES = Stage(
    "faces",
    IMAGE.modalities,
    (*IMAGE.settings, "train.label_smoothing=0"),
    rows="image/taught.jsonl",
)
AUDIO = Stage(
    "audio",
    ("audio",),
    (
        *MIXED,
        "train.class_weights=1",
        "train.epochs=20",
        "train.batch_size=16",
        "train.learning_rate=1e-3",
        "train.average=0.99",
        # What tells speakers apart, as it is; it never heard a band that is masked.
        "audio_encoder.kind=ge2e",
        "train.freeze=[audio.1]",
        # Actors' clips are cut close; in a call there are pauses, and a room is heard in them.
        "audio.pause_ms=600",
        # Voices are few; faster and slower, each is several.
        "audio.speed=0.2",
        "audio.mask_time=0",
        "audio.mask_frequency=0",
    ),
    rows="audio/shown.jsonl",
)
JOINT = Stage(
    "joint",
    ("text", "image", "audio"),
    (
        *MIXED,
        "train.epochs=1",
        "train.batch_size=64",
        "train.learning_rate=5e-4",
        "train.average=0.998",
        # Fourteen sets through one head.
        "head.hidden=192",
        # Three eighths of it is what `faces` knows; photographs are told apart by more.
        "image.size=128",
        "image_encoder.kind=cnn-efficientnet",
        f"image_encoder.width={WIDTH}",
        # Of words, what joins them learns on: pieces would know the few pairs by heart.
        "train.freeze=[text.0,audio,image.1.path,image.1.whole.0,image.1.whole.1.far.0,image.2]",
    ),
    rows="joint/taught.jsonl",
    start=("taught", "audio"),
)
JOINT_WEIGHTS = {"semeval2017": 0.5, "ravdess": 1.0, "casia": 1.0, "oasis": 0.5}
"""Class weights of sets that are scored by macro recall or macro F1; those that are scored by
accuracy (mvsa-single, fer2013) show how frequent their labels are, and texts alone are learned from
answers, in which that is weighed already."""
# The same, beside experts of words, which are heard as they are.
HEARD = Stage(
    "heard",
    JOINT.modalities,
    (*JOINT.settings, f"text_encoder.kind={experts.KIND}", "train.epochs=0"),
    rows=JOINT.rows,
)
STAGES = {stage.name: stage for stage in (TEXT, IMAGE, FACES, AUDIO, TAUGHT, JOINT, HEARD)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stage", action="append", choices=STAGES, help="only these; all if none")
    parser.add_argument("--jobs", type=int, default=2, help="encoders trained side by side")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=[known.name for known in sets.SETS],
        help="a set to leave out",
    )
    manifests.add_choices(parser)
    given = parser.parse_args()
    chosen = given.stage or list(STAGES)
    started = time.monotonic()
    _find(chosen, given.out)
    dev = manifests.held_out(casia_speaker=given.casia_speaker, oasis_fold=given.oasis_fold)
    prepare(given.data, given.out, given.without, dev)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        # The longest first; pictures and speech beside what the teachers' pupil learns.
        asked = TEACHERS if TAUGHT.name in chosen else ()
        words = [pool.submit(teach, given.out, lang, seed) for lang, seed in asked]
        words += [pool.submit(train, name, given.out) for name in chosen if name == TEXT.name]
        others = [
            pool.submit(
                in_turn, [stage.name for stage in stages if stage.name in chosen], given.out
            )
            for stages in ((IMAGE, FACES), (AUDIO,))
        ]
        for job in words:
            job.result()
        if TAUGHT.name in chosen:
            others.append(pool.submit(train, TAUGHT.name, given.out))
        for job in others:
            job.result()
    in_turn([stage.name for stage in (JOINT, HEARD) if stage.name in chosen], given.out)
    if HEARD.name in chosen:
        quantise(given.out / "models" / HEARD.name, given.out / "models" / "base")
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cost = {
        "stages": chosen,
        "wall_minutes": (time.monotonic() - started) / 60,
        "cpu_minutes": sum(u.ru_utime + u.ru_stime for u in usage) / 60,
        "peak_memory_mb": max(u.ru_maxrss for u in usage) / 1024,
    }
    print(json.dumps(cost))


def prepare(
    data: Path, out: Path, without: list[str], dev: manifests.HeldOut | None = None
) -> None:
    """Check the data and write the manifests, once. dev: as manifests.write.

    Raises: DataError for data that are missing or changed, or manifests of another dev.
    """
    summary = out / "summary.json"
    if summary.is_file():
        _same_dev(summary, dev)
    else:
        sets.verify(data)
        outliers.write(out, seed=SEED)
        left = [given for given in sets.SETS if given.name not in without]
        manifests.write(data, out, seed=SEED, dev=dev, sets=left)
        phrases.write(out)
    for stage in (TEXT, IMAGE, AUDIO, JOINT):
        with (out / stage.name / "shown.jsonl").open("w", encoding="utf-8") as file:
            file.write((out / stage.name / "train.jsonl").read_text(encoding="utf-8"))
            file.writelines(f"{line}\n" for line in _unsure(out, stage))


def _same_dev(summary: Path, dev: manifests.HeldOut | None) -> None:
    stands = json.loads(summary.read_text(encoding="utf-8")).get("held_out")
    if dev and stands != (asked := {name: choice.words for name, choice in dev.items()}):
        raise DataError(f"{summary}: holds out {stands}, not {asked}: give another folder")


def _unsure(out: Path, stage: Stage) -> Iterator[str]:
    """What a model must not be sure of: every label as probable as any other."""
    with (out / "outliers" / "train.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if any(row[modality] for modality in stage.modalities):
                even = dict.fromkeys(sets.LABELS, 1)
                yield json.dumps({**row, "probabilities": even}, ensure_ascii=False)


def _find(chosen: list[str], out: Path) -> None:
    """What others have made: now, and not when hours have gone by."""
    if TAUGHT.name in chosen:
        _find_teachers()
    if AUDIO.name in chosen:
        _find_voices(out)
    if JOINT.name in chosen:
        _find_photographs(out)


def _find_teachers() -> None:
    """Raises: DataError for one that is missing."""
    from recipes.base import teacher

    for given in teacher.TEACHERS.values():
        given.path()


def _find_photographs(out: Path) -> None:
    """What others' encoder of photographs knows, as a file."""
    from recipes import photos

    out.mkdir(parents=True, exist_ok=True)
    photos.write(out / PHOTOGRAPHS)


def _find_voices(out: Path) -> None:
    """What others' encoder of voices knows, as a file.

    Raises: DataError if its package is missing.
    """
    from recipes import voices

    out.mkdir(parents=True, exist_ok=True)
    voices.write(out / VOICES)


def _pictures(out: Path) -> Path:
    """The joint stage's image encoder: of faces from the stage `faces`, of photographs from
    elsewhere."""
    from safetensors.torch import load_file, save_file

    from moodal.model import encoders

    n_near = encoders.NEAR_LAYERS
    places = {"encoders.image.1.": "1.path.1.", "encoders.image.3.": "2."}
    for i in range(encoders.LAYERS):
        far = f"1.whole.1.far.0.{i - n_near}."
        places[f"1.{i}."] = f"1.whole.0.{i}." if i < n_near else far
    given = load_file(out / "models" / FACES.name / bundle.WEIGHTS) | load_file(out / PHOTOGRAPHS)
    begun = {
        here + name.removeprefix(there): values
        for there, here in places.items()
        for name, values in given.items()
        if name.startswith(there)
    }
    own = encoders.IMAGE["cnn-efficientnet"](encoders.Spec(width=WIDTH)).state_dict()
    file = out / JOINT.name / "pictures.safetensors"
    save_file({name: values for name, values in begun.items() if name in own}, file)
    return file


def teach(out: Path, lang: str, seed: int) -> None:
    """Have a teacher answer the texts of a language, the words of its pairs, and texts made of
    both."""
    from recipes.base import teacher  # what reads the large models: seconds to import

    teacher.teach(
        out / TEXT.rows,
        _answered(out, lang, seed),
        lang,
        bf16=_knows_bf16(),
        seed=seed,
        pairs=_halves(out, "text", lang),
    )


def _halves(out: Path, kept: Modality, lang: str | None = None) -> dict[int, list[Row]]:
    """Fold -> the words of its pairs, of a language if one is named, or their pictures; those of a
    theme, which are much alike, are in one."""
    hidden = "image" if kept == "text" else "text"
    folds: dict[int, list[Row]] = {}
    for row in _read(out / JOINT.name / "train.jsonl"):
        is_pair = row["text"] and row["image"] and not row["audio"]
        if is_pair and lang in (None, row["lang"]):
            fold = manifests.bucket(manifests.theme(Path(row["image"]).stem), FOLDS)
            folds.setdefault(fold, []).append(row | {hidden: ""})
    return dict(sorted(folds.items()))


def _answered(out: Path, lang: str, seed: int) -> Path:
    return out / TEXT.name / f"answered-{lang}-{seed}.jsonl"


def _answers(out: Path) -> dict[str, Row]:
    """Row by id, with the mean of what its teachers made of it."""
    found: dict[str, list[Row]] = {}
    for lang, seed in TEACHERS:
        for row in _read(_answered(out, lang, seed)):
            found.setdefault(row["id"], []).append(row)
    return {id: rows[0] | {"probabilities": _mean(rows)} for id, rows in found.items()}


def _mean(rows: list[Row]) -> dict[str, float]:
    labels = rows[0]["probabilities"]
    return {n: sum(row["probabilities"][n] for row in rows) / len(rows) for n in labels}


def _tell(out: Path) -> None:
    """Texts by the teachers' answers, and theirs beside them, told with other names."""
    answers = _answers(out)
    shown = list(_read(out / TEXT.rows))
    known = names.find(shown)
    rows = [answers.pop(row["id"], row) for row in shown] + list(answers.values())
    _write(out / TAUGHT.rows, names.exchanged(rows, known, np.random.default_rng(SEED)))


def _answer_texts(out: Path) -> None:
    """What a text that stands alone teaches the joint stage is what the stage `taught` makes of it,
    among the labels of its set: so the words are answered as before when others join them. Behind
    these rows, pictures of pairs by themselves."""
    model = moodal.load(out / "models" / TAUGHT.name)
    rows = list(_read(out / JOINT.name / "shown.jsonl"))
    known = {given.name for given in sets.SETS}
    alone = [
        r for r in rows if r["text"] and not (r["image"] or r["audio"]) and r["group"] in known
    ]
    told = model.predict_many({"text": row["text"]} for row in alone)
    for row, answer in zip(alone, told, strict=True):
        assert isinstance(answer, Prediction), "it has learned from this very text"
        row["probabilities"] = sets.among(row["group"], answer.probabilities)
    _write(out / JOINT.rows, [*rows, *_pictures_alone(out)])


def _join_experts(out: Path) -> Path:
    """What the stage HEARD starts from."""
    words = [row for fold in _halves(out, "text").values() for row in fold]
    rows = names.of_both([*_read(out / TEXT.rows), *words])
    folder = out / HEARD.name
    experts.join(out / "models" / JOINT.name, list(rows), folder)
    return folder


def _pictures_alone(out: Path) -> Iterator[Row]:
    """Those of pairs, as specialists tell them: one model of all sets does not tell these apart."""
    if halves := _halves(out, "image"):
        told = list(specialists.told(halves, out / PHOTOGRAPHS, JOINT_WEIGHTS))
        for i in range(OFTEN):
            yield from (row | {"id": f"{row['id']}/{i}"} for row in told)


def _answer_faces(out: Path) -> None:
    """Half of what a face then teaches is its label, half what the stage `image` makes of it.

    Source: Furlanello et al., Born-Again Neural Networks (2018), section 3.
    """
    model = moodal.load(out / "models" / IMAGE.name)
    rows = list(_read(out / IMAGE.rows))
    faces = [row for row in rows if row["label"]]
    told = model.predict_many({"image": Path(row["image"])} for row in faces)
    for row, answer in zip(faces, told, strict=True):
        assert isinstance(answer, Prediction), "it has learned from this very picture"
        row["probabilities"] = {
            label: (share + (label == row["label"])) / 2
            for label, share in answer.probabilities.items()
        }
    _write(out / FACES.rows, rows)


def _read(file: Path) -> Iterator[Row]:
    yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _write(file: Path, rows: Iterable[Row]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _joint_weights(out: Path) -> str:
    """The setting, of the sets that were not left out."""
    learned = json.loads((out / "summary.json").read_text(encoding="utf-8"))["sets"]
    powers = {name: power for name, power in JOINT_WEIGHTS.items() if name in learned}
    return f"train.class_weights={json.dumps(powers)}"


def _knows_bf16() -> bool:
    """Whether mixed precision is faster here: a processor that does not know these floats emulates
    them, eleven times slower for text."""
    import torch

    if torch.cuda.is_available():
        return True
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def in_turn(names: list[str], out: Path) -> None:
    for name in names:
        train(name, out)


def train(name: str, out: Path) -> None:
    stage = STAGES[name]
    found: tuple[str, ...] = ()
    start = [out / "models" / parent for parent in stage.start]
    if name == TAUGHT.name:
        _tell(out)
    if name == FACES.name:
        _answer_faces(out)
    if name == AUDIO.name:
        found = (f"audio_encoder.weights={out / VOICES}",)
    if name == JOINT.name:
        _answer_texts(out)
        found = (_joint_weights(out), f"image_encoder.weights={_pictures(out)}")
    if name == HEARD.name:
        start = [_join_experts(out)]
    moodal.train(
        out / stage.rows,
        valid=(out / stage.rows).with_name("dev.jsonl"),
        out=out / "models" / name,
        settings=(
            *stage.settings,
            *found,
            f"modalities=[{', '.join(stage.modalities)}]",
            f"train.precision={'bf16' if _knows_bf16() else 'no'}",
            f"cache={out / 'cache'}",
        ),
        start=start,
    )


if __name__ == "__main__":
    main()
