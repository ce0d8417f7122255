"""Settings: the defaults run, a file lies over them, the command line over the file."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest
import yaml

from moodal import config
from moodal.config import Run
from moodal.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_said_is_the_defaults() -> None:
    assert config.load() == Run()


def test_a_file_lies_over_the_defaults_and_settings_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {epochs: 7, batch_size: 8}\nmodalities: [text, audio]\n")
    run = config.load(path, ["train.epochs=9", "audio.noise_snr_db=null", "text.min_count=1"])
    assert (run.train.epochs, run.train.batch_size) == (9, 8)
    assert run.modalities == ("text", "audio")
    assert run.audio.noise_snr_db is None
    assert run.fusion == Run().fusion


def test_settings_lie_over_a_run_that_is_given() -> None:
    given = config.load(settings=["train.epochs=3", "train.seed=4"])
    run = config.load(given, ["train.epochs=5"])
    assert (run.train.epochs, run.train.seed) == (5, 4)


def test_the_last_setting_of_a_key_counts() -> None:
    assert config.load(settings=["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_no_mixed_precision_can_be_said_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train:\n  precision: no\n")  # which YAML reads as false
    assert config.load(path).train.precision == "no"
    assert config.load(None, ["train.precision=no"]).train.precision == "no"


def test_what_is_saved_is_what_was_meant(tmp_path: Path) -> None:
    run = config.load(settings=["text.vectors=a/b.vec", "columns.text=正文", "train.l1=1e-5"])
    text = yaml.safe_dump(run.model_dump(mode="json"), allow_unicode=True)
    assert config.load(written(tmp_path, text)) == run


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n  # epochs: 5\nmodalities:\n"])
def test_a_stage_that_is_commented_out_keeps_its_defaults(tmp_path: Path, text: str) -> None:
    assert config.load(written(tmp_path, text)) == Run()


def test_a_run_cannot_be_changed_by_accident() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Run().train = config.Train(epochs=3)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.epoch=5", "train.epoch: there is no such setting, only epochs, batch_size"),
        ("training=5", "training: there is no such setting, only task, modalities"),
        ("columns.review=x", "columns.review: there is no such setting, only id, text, image"),
        ("train.epochs=-1", "train.epochs=-1: Input should be greater than or equal to 0"),
        ("train.epochs=many", "train.epochs='many': Input should be a valid integer"),
        ("train.learning_rate=.inf", "train.learning_rate=inf: Input should be a finite number"),
        ("train.learning_rate=.nan", "train.learning_rate=nan: Input should be"),
        ("fusion.kind=magic", "fusion.kind='magic': Input should be 'concat', 'gated'"),
        ("modalities=[smell]", "modalities.0='smell': Input should be 'text', 'image' or 'audio'"),
        ("train.precision=yes", "train.precision=True: Input should be 'no', 'fp16' or 'bf16'"),
        ("train=5", "train=5: Input should be a valid dictionary"),
        ("text=null", "text=None: Input should be a valid dictionary"),
        ("fusion.heads=5", "fusion.heads=5 does not divide fusion.width=96"),
        ("audio.noise_snr_db=[30, 10]", "audio.noise_snr_db=[30.0, 10.0]: the lower number"),
        ("train.epochs", "setting 'train.epochs' has no '='; write it as train.epochs=5"),
        ("=5", "there is no such setting"),
        ("text.vectors=[", "setting 'text.vectors=[': the value is not YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_allowed(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(settings=[setting])
    assert said in str(caught.value)


def test_a_value_is_no_table() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs\.x=1': epochs is a value, not a table"):
        config.load(settings=["train.epochs=3", "train.epochs.x=1"])


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs=-1.*; train\.seed=-1"):
        config.load(settings=["train.epochs=-1", "train.seed=-1"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"train: [", "cannot be read as YAML"),
        (b"train: {epochs: \xff}", "cannot be read as YAML"),
        (b"- 5", "holds list, not a table of settings"),
        (b"5: {}", "5: there is no such setting"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        config.load(tmp_path / "nowhere.yaml")


def test_a_setting_changes_no_other() -> None:
    plain = config.Run().model_dump()
    for stage in ("text_encoder", "image_encoder", "audio_encoder"):
        changed = config.load(settings=[f"{stage}.width=64"]).model_dump()
        assert changed == {**plain, stage: {**plain[stage], "width": 64}}
