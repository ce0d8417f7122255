"""The default space: what means something here, around what the run has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import LABELLED, NUMBERED

from moodal.config import Run
from moodal.errors import ConfigError
from moodal.model.build import REGISTRIES
from moodal.preprocess.batch import Kind
from moodal.tasks import TASKS, configure
from moodal.training.objectives import Cost, build
from moodal.tuning import defaults, space
from moodal.tuning.defaults import Situation
from moodal.types import Modality, Seq

KINDS: dict[str, dict[Modality, Kind]] = {
    name: {m: task.kinds.get(kind, kind) for m, kind in raw.items() if m in task.reads}
    for name, task in TASKS.items()
    for raw in [{"text": "tokens", "image": "picture", "audio": "frames"}]
}  # type: ignore[misc]


def situation(task: str, kinds: dict[Modality, Kind] | None = None, **given: Any) -> Situation:
    read = kinds or KINDS[task]
    run = configure(None, [f"task={task}"], under={}, columns=tuple(read))
    labelled = TASKS[task].head == "summary" and TASKS[task].higher_is_better
    return Situation(defaults.resolved(run, read), read, labelled, **given)


def names(here: Situation) -> set[str]:
    return set(defaults.space(here).entries)


@pytest.mark.parametrize("task", TASKS)
def test_the_space_holds_what_the_run_itself_has(task: str) -> None:
    here = situation(task)
    own = defaults.values_of(here.run, defaults.space(here))
    assert own is not None
    assert space.varied(here.run, own) == here.run
    assert own["train.learning_rate"] == here.run.train.learning_rate


@pytest.mark.parametrize("task", TASKS)
def test_every_end_of_the_space_is_one_that_a_run_accepts(task: str) -> None:
    here = situation(task)
    found = defaults.space(here)
    assert space.parse(found.plain(), here.run, name="default") == found
    kept, idle = defaults.that_matter(found, here)
    assert (kept, idle) == (found, {})


def test_all_that_the_contract_names_is_searched_where_it_means_something() -> None:
    wanted = {
        "train.learning_rate",
        "train.batch_size",
        "train.l1",
        "train.l2",
        "train.average",
        "train.label_smoothing",
        "train.modality_dropout",
        "fusion.kind",
        "fusion.width",
        "fusion.dropout",
        "head.dropout",
        "text.word_dropout",
        "image.crop",
        "audio.augment",
        "text_encoder.kind",
        "audio_encoder.kind",
        *(
            f"{m}_encoder.{what}"
            for m in KINDS[LABELLED]
            for what in ("width", "layers", "dropout")
        ),
    }
    assert wanted <= names(situation(LABELLED))


@pytest.mark.parametrize("task", TASKS)
def test_what_means_nothing_to_the_task_is_left_out(task: str) -> None:
    """Label smoothing is searched if and only if it changes the loss, and so on."""
    here, found = situation(task), names(situation(task))
    head = TASKS[task].head
    target = Seq(torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool))
    answer = Seq(torch.randn(1, 2, 5), torch.ones(1, 2, dtype=torch.bool))
    if head == "summary":
        target = Seq(torch.eye(5)[:1, None], target.mask[:, :1])
    elif head == "decoder":
        answer = Seq(answer.x.log_softmax(2), answer.mask)
    costs = [
        build(task, "auto", Cost(s, 1.0))(answer, target, torch.ones(1, 5)) for s in (0.0, 0.5)
    ]
    assert ("train.label_smoothing" in found) == (not torch.equal(*costs))
    assert ("decoder.dropout" in found) == (head == "decoder")
    assert ("head.dropout" in found) == (head != "decoder")
    assert ("fusion.kind" in found) == (len(here.kinds) > 1)
    assert ("fusion.dropout" in found) == (head != "frames")
    assert ("train.class_weights" in found) == here.has_labels


def test_powers_of_single_sets_are_left_as_they_are() -> None:
    here = situation(LABELLED)
    powers = [f"task={LABELLED}", "train.mixture=0.5", "train.class_weights={tweets: 1}"]
    run = configure(None, powers, under={}, columns=tuple(here.kinds))
    assert run.train.class_weights == {"tweets": 1.0}
    here = Situation(defaults.resolved(run, here.kinds), here.kinds, here.has_labels)
    assert "train.class_weights" not in names(here)


def test_modalities_that_are_not_read_are_left_out_and_one_alone_is_not_fused() -> None:
    found = names(situation(LABELLED, {"text": "tokens"}))
    assert not {n for n in found if n.startswith(("image", "audio"))}
    assert not {"fusion.kind", "train.modality_dropout", "train.auxiliary"} & found
    assert "fusion.dropout" in found


def test_features_are_taken_as_they_are() -> None:
    here = situation(NUMBERED, {"text": "vectors", "audio": "vectors"})
    found = defaults.space(here)
    assert "text.word_dropout" not in found.entries
    assert found.entries["audio_encoder.kind"].ends == tuple(REGISTRIES["vectors"])


def test_what_a_model_to_start_from_fixes_is_left_out() -> None:
    found = names(situation(LABELLED, inherited=("text",)))
    assert not {"text_encoder.kind", "text_encoder.width", "text_encoder.layers"} & found
    assert not {"fusion.kind", "fusion.width"} & found
    assert {"text_encoder.dropout", "image_encoder.width", "train.learning_rate"} <= found


def test_of_a_given_space_what_means_nothing_is_named_with_the_reason() -> None:
    here = situation(LABELLED, {"text": "tokens"})
    given = space.parse(
        {
            "train.l1": {"kind": "float", "low": 0, "high": 1},
            "image.crop": {"kind": "float", "low": 0, "high": 0.5},
            "decoder.dropout": {"kind": "float", "low": 0, "high": 0.5},
        },
        here.run,
        name="s",
    )
    kept, idle = defaults.that_matter(given, here)
    assert list(kept.entries) == ["train.l1"]
    assert idle == {
        "image.crop": "no image is read",
        "decoder.dropout": "no answer is said word by word",
    }
    with pytest.raises(ConfigError, match=r"means anything here: image\.crop: no image is read"):
        defaults.that_matter(given.only({"image.crop"}), here)


@pytest.mark.parametrize(
    ("setting", "values", "said"),
    [
        ("text_encoder.kind", ["bag", "gpt"], "'gpt': here it is one of auto, bag, cnn"),
        ("train.loss", ["auto", "mse"], "'mse': here it is one of auto, cross_entropy"),
    ],
)
def test_a_choice_that_this_input_or_task_does_not_have_is_named(
    setting: str, values: list[str], said: str
) -> None:
    here = situation(LABELLED)
    given = space.parse({setting: {"kind": "choice", "values": values}}, here.run, name="s")
    with pytest.raises(ConfigError, match=said):
        defaults.that_matter(given, here)


def test_auto_is_called_by_its_name_and_nothing_else_changes() -> None:
    run = Run()
    found = defaults.resolved(run, {"text": "tokens", "image": "picture"})
    assert found.text_encoder == run.text_encoder.model_copy(update={"kind": "bag"})
    assert found.audio_encoder == run.audio_encoder
    assert defaults.resolved(found, {"text": "tokens"}) == found


def test_a_narrow_encoder_is_not_halved_to_nothing() -> None:
    here = situation(LABELLED)
    run = space.varied(here.run, {"audio_encoder.width": 12, "text_encoder.width": 32})
    found = defaults.space(Situation(run, here.kinds, here.has_labels)).entries
    assert found["audio_encoder.width"].ends == (12, 24)
    assert found["text_encoder.width"].ends == (16, 32, 64)


def test_a_run_outside_a_given_space_has_no_place_in_it() -> None:
    here = situation(LABELLED)
    given = space.parse(
        {"train.learning_rate": {"kind": "float", "low": 0.5, "high": 1}}, here.run, name="s"
    )
    assert defaults.values_of(here.run, given) is None
