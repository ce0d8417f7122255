"""A model is a folder: what is in it, how it is written, how it is read and checked.

bundle.json          Info: format, task, labels, settings, calibration, data, sha256 of all
text.onnx image.onnx audio.onnx   one graph an encoder
head.onnx            fusion + head
vocabulary.txt       when it reads words
symbols.model        when it answers a text with a text: what both are made of
step.onnx            when it does: the next symbol
language.json        when it writes speech down: a language model of characters
reference.json       what the validation rows measured and were answered
weights.safetensors config.yaml   only what further training needs
card.md              what it is, for people
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from moodal import config
from moodal.errors import CapacityError, ConfigError, ModelError
from moodal.preprocess import batch, symbols, vocabulary
from moodal.preprocess.batch import Kind, Lexicon, Settings
from moodal.tasks import TASKS
from moodal.types import MODALITIES, Modality, Subset, TaskName

FORMAT = 1
INFO = "bundle.json"
HEAD = "head.onnx"
STEP = "step.onnx"
VOCABULARY = "vocabulary.txt"
SYMBOLS = "symbols.model"
LANGUAGE = "language.json"
REFERENCE = "reference.json"
WEIGHTS = "weights.safetensors"
CONFIG = "config.yaml"
CARD = "card.md"
SCALE = ":scale"
"""weights.safetensors of int8: NAME times NAME:scale, (n_rows,), is the tensor. Where NAME is not
there, a graph's initializer of that name is meant."""

PACKAGED = Path(__file__).parent / "base"
"""The model that comes with the package."""
BASE = "base"
"""What it is called where a model's folder is asked for."""

_NO_PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
}
"""What a full, failing, read-only or forbidden disk answers."""


def encoder_file(modality: Modality) -> str:
    return f"{modality}.onnx"


class Info(config.Stage):
    """bundle.json: all that is known of a model beside its weights."""

    format: int = FORMAT
    name: str
    """The folder it was first written to."""
    created: str
    """UTC, ISO 8601."""
    moodal: str
    """The version that wrote it."""
    task: TaskName
    labels: tuple[str, ...]
    """A label's place is its code; empty for a regression. Of a model that answers with a text,
    the symbols it is made of."""
    columns: config.Columns
    kinds: dict[Modality, Kind]
    widths: dict[Modality, int]
    """D of precomputed features."""
    text: config.Text
    image: config.Image
    audio: config.Audio
    encoding_width: int
    """D of every encoder's output."""
    aside: dict[Modality, int] = pydantic.Field(default_factory=dict)
    """Numbers that an encoder hands over behind D, where there are any; the fusion is not shown
    them."""
    parameters: int
    temperatures: dict[str, float]
    """Subset, written as text+image, -> temperature."""
    threshold: float
    """Confidence under which the model abstains."""
    familiar: float = 0.0
    """Share of known words under which a text is taken for one the model cannot read."""
    prior: tuple[float, ...]
    """The answer when nothing is seen: label frequencies, or the mean value."""
    data: dict[str, Any]
    """sha256 of the training and validation manifests, counts of rows."""
    scores: dict[str, Any]
    """Validation scores: subset -> metrics."""
    history: tuple[dict[str, float], ...] = ()
    """One row an epoch: epoch, train_loss, valid_loss, score, seconds."""
    parents: tuple[str, ...] = ()
    """The models it started from: name and the beginning of the seal."""
    decode: config.Decode = config.Decode()
    """How a text is searched for."""
    stride: int = 1
    """Frames of sound that one frame of an answer stands for."""
    confidence: tuple[float, float] = (1.0, 0.0)
    """Slope and offset that make a word's confidence the chance that it is right."""
    weights: Literal["float32", "int8"] = "float32"
    """How weights are kept."""
    arithmetic: Literal["float32", "int8"] = "float32"
    """How answers are computed; int8: the layers whose input is quantised, others in float32."""
    files: dict[str, str] = pydantic.Field(default_factory=dict)
    """File name -> sha256."""
    seal: str = ""
    """sha256 of bundle.json as it reads with this left empty."""

    @property
    def modalities(self) -> Subset:
        return tuple(m for m in MODALITIES if m in self.kinds)

    @property
    def settings(self) -> Settings:
        windowed = TASKS[self.task].windowed
        return batch.settings_of(self.kinds, self.widths, self, windowed=windowed)


def find(name: Path | str | None) -> Path:
    """The folder of a model: None is the packaged one, and so is "base" where no model is so named.

    Raises: ModelError when the packaged model is not there.
    """
    if name is not None and (str(name) != BASE or (Path(name) / INFO).is_file()):
        return Path(name)
    if not (PACKAGED / INFO).is_file():
        raise ModelError("this build of moodal holds no base model; name a trained folder")
    return PACKAGED


def subset_name(subset: Subset) -> str:
    return "+".join(subset)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a sentence. Raises: CapacityError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise CapacityError(
            f"{path}: cannot be written ({os.strerror(error.errno)}), nothing was left "
            "half-written; free some space or name another place"
        ) from error


def check_target(folder: Path) -> None:
    """Refuse, before any work is done, to write over what is not a bundle. Raises: ConfigError."""
    with writing(folder):
        if (folder / INFO).is_file():
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: exists and is not a model; name a new folder with --out")
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        if not above.is_dir():
            raise ConfigError(f"{folder}: {above} is a file; name a new folder with --out")


def save(folder: Path, info: Info, files: Mapping[str, bytes | Callable[[Path], None]]) -> Info:
    """Write a bundle under a temporary name beside `folder`, then rename it there.

    files: name -> its bytes, or a function that writes the path it is given.
    Returns: info with the sha256 of every file. A bundle that stood there is replaced.
    Raises: CapacityError when the disk is full; ConfigError when something else stands there.
    """
    check_target(folder)
    with writing(folder):
        folder = folder.resolve()  # a link stays one, and "." has a name
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            for name, content in files.items():
                if isinstance(content, bytes):
                    (temporary / name).write_bytes(content)
                else:
                    content(temporary / name)
            hashes = {name: _sha256((temporary / name).read_bytes()) for name in sorted(files)}
            info = info.model_copy(update={"files": hashes, "seal": ""})
            info = info.model_copy(update={"seal": _sha256(_json(info))})
            (temporary / INFO).write_bytes(_json(info))
            _put(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return info


def _json(info: Info) -> bytes:
    return info.model_dump_json(indent=1).encode("utf-8")


def _put(temporary: Path, folder: Path) -> None:
    """Rename into place; what stood there is kept until the new one stands."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Info:
    """Read and check bundle.json; the other files are checked as they are read.

    Raises: ModelError for what is no bundle, is damaged, or has a format this version lacks.
    """
    path = folder / INFO
    if not path.is_file():
        raise ModelError(f"{folder}: is not a model, it has no {INFO}; name a trained folder")
    try:
        content = path.read_bytes()
        values = json.loads(content)
        found = values.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); copy the model again") from error
    if found != FORMAT:
        raise ModelError(
            f"{path}: has format {found!r}, this version of moodal reads {FORMAT}; "
            "use the version that wrote it, or train again"
        )
    try:
        info = Info.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{path}: is damaged ({place}: {first['msg']}); copy the model again"
        ) from error
    if _sha256(content.replace(info.seal.encode(), b"", 1)) != info.seal:
        raise ModelError(f"{path}: has changed since it was saved; copy the model again")
    if info.task not in TASKS:
        raise ModelError(f"{path}: has the task {info.task!r}; known are {', '.join(TASKS)}")
    return info


def read(folder: Path, info: Info, name: str) -> bytes:
    """The bytes of one file, checked against its hash. Raises: ModelError."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(
            f"{folder / name}: cannot be read ({error}); copy the model again"
        ) from error
    if (expected := info.files.get(name)) != (found := _sha256(content)):
        raise ModelError(
            f"{folder / name}: has changed since it was saved (sha256 {found[:12]}..., "
            f"{INFO} says {str(expected)[:12]}...); copy the model again"
        )
    return content


def verify(folder: Path) -> Info:
    """Check every file. Raises: ModelError naming the first that is missing or changed."""
    info = load(folder)
    for name in info.files:
        read(folder, info, name)
    return info


def lexicon(folder: Path, info: Info) -> Lexicon | None:
    """What the model's texts are made of; None where it reads no raw text. Raises: ModelError."""
    if VOCABULARY in info.files:
        return vocabulary.parse(read(folder, info, VOCABULARY), info.text)
    return symbols.parse(read(folder, info, SYMBOLS)) if SYMBOLS in info.files else None


def settings_of(folders: Sequence[Path]) -> dict[str, Any]:
    """The settings that a run which starts from these models takes over: how their modalities are
    read and encoded, the fusion and the head of the first.

    Raises: ModelError.
    """
    taken: dict[str, Any] = {}
    for folder in folders:
        info = load(folder)
        made_with = yaml.safe_load(read(folder, info, CONFIG))
        stages = ("fusion", "head", "decoder", "decode")
        for stage in (*(f"{m}_encoder" for m in info.modalities), *stages):
            taken.setdefault(stage, made_with.get(stage, {}))
        for modality in info.modalities:
            taken.setdefault(modality, made_with[modality])
    if "text" in taken:
        taken["text"]["vectors"] = None  # the model's own are further on
    return taken


def version(info: Info) -> str:
    """What tells one saved model from every other: the beginning of its seal."""
    return info.seal[:12]


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
