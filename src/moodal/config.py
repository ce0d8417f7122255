"""Every setting, one frozen model a stage; the defaults run. `Run` holds them all.

File < command line: `load` reads a YAML file and lays `key=value` settings over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from moodal.errors import ConfigError
from moodal.types import Modality, TaskName

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _powers(given: Any) -> float | dict[str, float]:
    """As pydantic reads either, but it would complain of both."""
    kind: Any = dict[str, Fraction] if isinstance(given, dict) else Fraction
    try:
        powers: float | dict[str, float] = pydantic.TypeAdapter(kind).validate_python(given)
    except pydantic.ValidationError as error:
        raise ValueError(
            f"train.class_weights={given!r}: give a power from 0 to 1, or {{set: power}}"
        ) from error
    return powers


Powers = Annotated[float | dict[str, float], pydantic.PlainValidator(_powers)]
"""In [0, 1]: one, or one a set."""
Precision = Annotated[
    Literal["no", "fp16", "bf16"],
    pydantic.BeforeValidator(lambda given: "no" if given is False else given),
]
"""Unquoted, YAML reads `no` as false."""
Activation = Literal["sigmoid", "tanh", "relu", "relu6", "gelu"]


class Stage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Given = TypeVar("Given", bound=Stage)


class Columns(Stage):
    """The manifest's columns: our name -> the file's name."""

    id: str = "id"
    text: str = "text"
    image: str = "image"
    audio: str = "audio"
    label: str = "label"
    probabilities: str = "probabilities"
    lang: str = "lang"
    group: str = "group"
    split: str = "split"


class Text(Stage):
    """Text to pieces: words, word pairs and character n-grams."""

    max_tokens: Count = 160
    """Positions kept of a text; the rest is cut."""
    vocabulary: Count = 60_000
    """Pieces kept, the most frequent first."""
    symbols: Count = 4_000
    """Where a text is answered with a text: symbols kept, Chinese characters and subwords."""
    min_count: Count = 2
    """A piece seen in fewer training texts is dropped."""
    word_ngrams: Count = 2
    """Longest run of words that is a piece of its own; 1 = single words only."""
    char_ngrams: Annotated[int, Field(ge=0)] = 4
    """Longest run of characters inside a word that is a piece (an unknown word still means
    something); 0 = none. The shortest is 3 for Latin words, 1 for Chinese."""
    pieces: Count = 16
    """Pieces kept of one position."""
    segment: Literal["words", "characters"] = "words"
    """Chinese: segmented words, or single characters."""
    lowercase: bool = True
    stop_words: bool = False
    """True drops the stop words of preprocess/stopwords (never a negation or an intensifier)."""
    vectors: Path | None = None
    """Word vectors to start from: the `.vec`/`.txt` format of word2vec, fastText and GloVe."""
    word_dropout: Fraction = 0.1
    """Training: the chance that a position is hidden."""


class Image(Stage):
    """Picture to pixels."""

    size: Annotated[int, Field(ge=16, le=512)] = 96
    """Height and width in pixels; the whole picture is fitted, the sides are not kept in ratio."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    scale: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Training: zoom drawn from [1 - scale, 1 + scale]."""
    crop: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Training: shift of the frame, as a share of the side."""
    flip: Fraction = 0.5
    """Training: the chance of a mirror image."""
    colour: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Training: brightness, contrast and saturation factors drawn from [1 - colour, 1 + colour]."""


class Audio(Stage):
    """Sound to frames. All sound becomes 16 kHz mono first."""

    feature: Literal["logmel", "mfcc"] = "logmel"
    frame_ms: Positive = 25.0
    hop_ms: Positive = 10.0
    n_mels: Count = 64
    n_mfcc: Count = 20
    normalise: Literal["bands", "level", "none"] = "level"
    """Subtract a recording's own mean from each band or coefficient (the voice's colour and the
    microphone's go), from all alike (only loudness goes), or nothing. How an emotion shifts the
    balance of bands carries over between voices better than what is left without it."""
    deltas: bool = True
    """MFCC: add first and second differences."""
    max_seconds: Positive = 30.0
    """Longer recordings are cut to this."""
    limit_seconds: Positive = 3600.0
    """Longer recordings are refused."""
    augment: Fraction = 0.5
    """Training: the chance that a recording is changed in speed, place, gain and noise at all; it
    must also be known as it is."""
    noise_snr_db: tuple[float, float] | None = (10.0, 30.0)
    """Training: white noise at a signal-to-noise ratio drawn from this range; None = none."""
    gain_db: Annotated[float, Field(ge=0.0)] = 6.0
    """Training: gain drawn from [-gain_db, +gain_db]."""
    shift_ms: Annotated[float, Field(ge=0.0)] = 100.0
    """Training: shift in time drawn from [-shift_ms, +shift_ms]; silence fills the gap."""
    pause_ms: Annotated[float, Field(ge=0.0)] = 0.0
    """Training: pauses before and after, each drawn from [0, pause_ms]; the noise is heard in
    them, as in a room where somebody is about to speak."""
    speed: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Training: speed factor drawn from [1 - speed, 1 + speed] (pitch moves with it)."""
    mask_time: Fraction = 0.1
    """Training: longest masked stretch of frames, as a share of all."""
    mask_frequency: Fraction = 0.15
    """Training: widest masked band, as a share of all."""

    @model_validator(mode="after")
    def _noise_rises(self) -> Self:
        if self.noise_snr_db and self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ValueError(
                f"audio.noise_snr_db={list(self.noise_snr_db)}: the lower number comes first"
            )
        return self


class Encoder(Stage):
    """One modality's encoder."""

    kind: str = "auto"
    """Text: bag, cnn, gru, lstm, transformer, cnn-experts. Image: cnn, efficientnet,
    cnn-efficientnet. Audio: cnn, gru, lstm, transformer, ge2e and, for what is said, tdnn-gru and
    tdnn-transformer. Features: mlp, gru, lstm. auto = bag, cnn, cnn, mlp."""
    weights: Path | None = None
    """Trained elsewhere, to start from: a safetensors file of (a part of) the encoder's tensors, by
    the names of its state_dict."""
    width: Count = 96
    """Width inside the encoder."""
    layers: Count = 2
    heads: Count = 4
    """Attention heads (transformer); must divide width."""
    kernel_size: Count = 3
    """Convolutions: positions a filter sees."""
    activation: Activation = "gelu"
    dropout: Fraction = 0.3


class TextEncoder(Encoder):
    """Words: thousands of rare pieces, each with a vector of its own, need more of it."""

    dropout: Fraction = 0.5


class Fusion(Stage):
    """How the modalities meet."""

    kind: Literal[
        "concat", "gated", "tensor", "lowrank", "crossmodal", "attention", "bottleneck"
    ] = "gated"
    width: Count = 96
    """D: the width every encoder hands over and the fusion answers with."""
    rank: Count = 4
    """lowrank: rank of the weight tensor."""
    layers: Count = 1
    """crossmodal, attention, bottleneck: transformer layers."""
    heads: Count = 4
    bottlenecks: Count = 4
    """bottleneck: tokens through which the modalities talk."""
    dropout: Fraction = 0.1


class Head(Stage):
    """From the fused summary to the answer."""

    kind: Literal["mlp", "cnn"] = "mlp"
    hidden: Annotated[int, Field(ge=0)] = 0
    """Hidden width; 0 = none, one linear layer (mlp only)."""
    activation: Activation = "gelu"
    dropout: Fraction = 0.3


class Decoder(Stage):
    """Where the answer is a text: how it is said, word by word."""

    kind: Literal["gru", "lstm"] = "gru"
    dropout: Fraction = 0.3


class Decode(Stage):
    """Where the answer is a text: the search for the best one. Nothing here is learned."""

    beam: Count = 4
    """Answers held at a time; 1 = greedy."""
    min_length: Annotated[int, Field(ge=0)] = 4
    """Summaries: symbols at least."""
    max_length: Count = 60
    """Summaries: symbols at most."""
    length_penalty: Annotated[float, Field(ge=0.0)] = 2.0
    """Summaries: 0 favours short answers; the higher, the longer they may be."""
    no_repeat: Annotated[int, Field(ge=0)] = 3
    """Summaries: no run of so many symbols twice; 0 = no limit."""
    language_order: Annotated[int, Field(ge=0)] = 0
    """Speech: characters of the n-gram language model of the training transcripts; 0 = none."""
    language_weight: Annotated[float, Field(ge=0.0)] = 0.3
    """Speech: how much the language model counts beside the sound."""
    language_bonus: float = 0.0
    """Speech: added for each character, against the language model's love of the short."""


class Train(Stage):
    """The loop."""

    epochs: Annotated[int, Field(ge=0)] = 20
    """0: nothing is learned; the model the run starts from is calibrated and scored."""
    batch_size: Count = 32
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Positive = 1e-3
    momentum: Fraction = 0.9
    """sgd only."""
    l1: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the sum of absolute weights in the loss."""
    l2: Annotated[float, Field(ge=0.0)] = 0.01
    """Weight decay: decoupled in adamw, added to the gradient in sgd and adam."""
    warmup: Fraction = 0.05
    """Share of all steps in which the learning rate climbs from 0."""
    decay: Literal["cosine", "linear", "none"] = "cosine"
    patience: Count = 5
    """Epochs without a better validation score before the run stops."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the gradient; 0 = no limit."""
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """What is judged and kept is a moving average of the weights, in which a step counts this much
    of the step after it; 0 = the weights as they are."""
    mixture: Fraction | None = None
    """Groups are data sets: each is drawn in proportion to its number of rows to this power (1 = as
    they are, 0 = all alike), its labels alone compete in its rows, and the score is the mean over
    the sets. None = groups mean nothing to training."""
    class_weights: Powers = 0.0
    """Weigh the loss of a class by its frequency (in its set, of a mixture) to minus this power:
    0 = all alike, 1 = 1 / frequency. {set: power} gives the sets of a mixture powers of their own,
    0 where none is given: one is scored by recall, another by accuracy."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    loss: Literal["auto", "cross_entropy", "mse", "smooth_l1"] = "auto"
    modality_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """The chance that a present modality is hidden in a step (one is always left)."""
    auxiliary: Annotated[float, Field(ge=0.0)] = 0.3
    """Weight of each modality's own loss."""
    freeze: tuple[str, ...] = ()
    """Encoders that stay as they are, as when a run starts from a trained model, or parts of them:
    image.1.path is what stands as encoders.image.1.path.* in weights.safetensors."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The learning rate of a layer is this much lower than that of the layer after it, from the
    answer back to the input."""
    unfreeze_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    """Gradual unfreezing: the answer learns from the start, and every so many epochs the layer
    before joins in; 0 = all learn from the start."""
    denoise: bool = False
    """Learn to say a hidden part of each text instead of its target: training before training, on
    texts without targets."""
    precision: Precision = "no"
    """Mixed precision, as Accelerate names it."""
    checkpoint_seconds: Positive = 60.0
    """Time between checkpoints within an epoch; each epoch ends with one as well."""
    threads: Count = 1
    """torch threads."""
    seed: Annotated[int, Field(ge=0)] = 0


class Calibrate(Stage):
    """What is chosen on the validation set once the weights are fixed."""

    precision: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """The abstain threshold is the lowest confidence whose answers are this often right."""


class Run(Stage):
    """All of a training run."""

    task: TaskName = get_args(TaskName)[0]
    modalities: tuple[Modality, ...] | None = None
    """None = those the training manifest holds."""
    columns: Columns = Columns()
    text: Text = Text()
    image: Image = Image()
    audio: Audio = Audio()
    text_encoder: TextEncoder = TextEncoder()
    image_encoder: Encoder = Encoder()
    audio_encoder: Encoder = Encoder()
    fusion: Fusion = Fusion()
    head: Head = Head()
    decoder: Decoder = Decoder()
    decode: Decode = Decode()
    train: Train = Train()
    calibrate: Calibrate = Calibrate()
    cache: Path | None = None
    """Folder of decoded media; None = the user's cache folder."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for name in ("text_encoder", "image_encoder", "audio_encoder", "fusion"):
            part = getattr(self, name)
            if part.width % part.heads:
                raise ValueError(
                    f"{name}.heads={part.heads} does not divide {name}.width={part.width}"
                )
        return self


def load(
    source: Path | Run | None = None,
    settings: Sequence[str] = (),
    *,
    under: Mapping[str, Any] | None = None,
) -> Run:
    """The configuration in a YAML file (or the defaults), with `key.key=value` laid over it.

    under: plain values that hold where the source says nothing. Values are read as YAML:
    `train.epochs=5`, `audio.noise_snr_db=null`, `modalities=[text]`.

    Raises: ConfigError, naming the key, its value and what was allowed.
    """
    if isinstance(source, Run):
        under, source = laid(under or {}, source.model_dump(exclude_unset=True)), None
    return parse(plain(source, settings, under=under))


def plain(
    file: Path | None, settings: Sequence[str] = (), *, under: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values in a YAML file laid over `under`, with `key.key=value` laid over both; unchecked.

    Raises: ConfigError for what is no YAML or no table.
    """
    values = laid(under or {}, {} if file is None else _read(file))
    for setting in settings:
        _lay_over(values, setting)
    return values


def laid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values: `over` where it says something, stage by stage, else `under`."""
    values = {stage: dict(v) if isinstance(v, Mapping) else v for stage, v in under.items()}
    for stage, value in over.items():
        both = isinstance(value, Mapping) and stage in values
        values[stage] = {**values[stage], **value} if both else value
    return values


def parse(values: Mapping[str, Any]) -> Run:
    """Check plain values, as YAML or JSON give them. Raises: ConfigError."""
    return checked(Run, values)


def checked(model: type[Given], values: Mapping[str, Any]) -> Given:
    """Plain values as settings. Raises: ConfigError, naming key, value and what was allowed."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError("; ".join(_sentence(e, model) for e in error.errors())) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a table of settings")
    # A stage whose lines are all commented out is one that was left alone.
    return {str(key): value for key, value in values.items() if value is not None}


def _sentence(error: Mapping[str, Any], model: type[Stage]) -> str:
    """One of pydantic's errors, for people."""
    *stage, name = error["loc"] or ("settings",)
    if error["type"] == "extra_forbidden":
        part = model.model_fields[stage[0]].annotation if stage else model
        known = ", ".join(getattr(part, "model_fields", ()))
        return f"{'.'.join((*stage, name))}: there is no such setting, only {known}"
    if error["type"] == "value_error":  # our own, which names the setting
        return str(error["ctx"]["error"])
    return f"{'.'.join(map(str, (*stage, name)))}={error['input']!r}: {error['msg']}"


def _lay_over(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"setting {setting!r} has no '='; write it as train.epochs=5")
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting {setting!r}: {parent} is a value, not a table")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"setting {setting!r}: the value is not YAML: {error}") from error
