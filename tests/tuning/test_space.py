"""A space: what is written is what is searched; what cannot be is named, with what could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from moodal.config import Encoder, Run
from moodal.errors import ConfigError
from moodal.tuning import space
from moodal.tuning.space import Choice, Float, Int, LogFloat

RATE = {"kind": "log-float", "low": 1e-4, "high": 1e-2}


def parse(**entries: Any) -> space.Space:
    return space.parse(
        {name.replace("__", "."): e for name, e in entries.items()}, Run(), name="s.yaml"
    )


def test_a_file_becomes_typed_entries_and_the_same_file_again(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "train.learning_rate: {kind: log-float, low: 1e-4, high: 0.01}\n"
        "train.label_smoothing: {kind: float, low: 0, high: 0.2}\n"
        "text_encoder.width: {kind: int, low: 16, high: 64, step: 16}\n"
        "text.lowercase: {kind: choice, values: [true, false]}\n",
        encoding="utf-8",
    )
    found = space.load(path, Run())
    assert found.entries == {
        "train.learning_rate": LogFloat(low=1e-4, high=0.01),
        "train.label_smoothing": Float(low=0, high=0.2),
        "text_encoder.width": Int(low=16, high=64, step=16),
        "text.lowercase": Choice(values=(True, False)),
    }
    path.write_text(found.to_yaml(), encoding="utf-8")
    assert space.load(path, Run()) == found
    assert found.to_yaml().splitlines()[2] == (
        "text_encoder.width: {kind: int, low: 16, high: 64, step: 16}"
    )


def test_a_choice_is_held_as_a_run_would_hold_it() -> None:
    """YAML reads 1e-4 as a text."""
    entry = parse(train__l1={"kind": "choice", "values": [0, "1e-4"]}).entries["train.l1"]
    assert entry == Choice(values=(0.0, 0.0001))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"train__learning_rat": RATE}, r"train\.learning_rat: .*\(perhaps train\.learning_rate\)"),
        ({"train__learning_rat": RATE}, "train has epochs, batch_size, optimiser"),
        ({"rate": RATE}, r"rate: there is no such setting .* as in train\.learning_rate"),
        ({"columns__text": RATE}, r"columns\.text: there is no such setting"),
        ({"decode__beam": RATE}, r"decode\.beam: there is no such setting"),
        ({"train__seed": RATE}, r"train\.seed: is the same for every trial; give it with --set"),
        ({"train__l2": {"kind": "flt"}}, "kind='flt' is none of float, log-float, int, choice"),
        ({"train__l2": {"low": 0, "high": 1}}, "kind=None is none of float"),
        ({"train__l2": 0.5}, r"train\.l2=0\.5: write it as {kind: float, low: 0\.0, high: 0\.5}"),
        ({"train__l2": {"kind": "float", "low": 2, "high": 1}}, "low=2 must be below high=1"),
        ({"train__l2": {"kind": "float", "low": 0, "high": float("inf")}}, "both finite"),
        ({"train__l2": {"kind": "float", "low": "x", "high": 1}}, r"train\.l2\.low='x'"),
        ({"train__l2": {"kind": "float", "low": 1}}, r"train\.l2: high is missing"),
        ({"train__l2": {**RATE, "step": 1}}, r"train\.l2\.step: there is no such key"),
        ({"train__l2": {**RATE, "low": 0}}, r"train\.l2\.low=0: .* greater than 0"),
        ({"train__l2": {"kind": "choice", "values": [1]}}, "at least 2 items"),
        ({"train__l2": {"kind": "choice", "values": [1, 1]}}, "hold one twice"),
        ({"train__l2": {"kind": "choice", "values": [[1], 2]}}, r"values hold \[1\]; each is a"),
        ({"train__batch_size": {**RATE, "low": 1, "high": 8}}, "takes whole numbers, such as 32"),
        ({"train__epochs": {"kind": "int", "low": 3, "high": 3}}, "low=3 must be below high=3"),
        (
            {"train__epochs": {"kind": "int", "low": 1, "high": 8, "step": 4}},
            "step=4 leads from low=1 past high=8",
        ),
        (
            {"train__label_smoothing": {"kind": "float", "low": 0, "high": 1}},
            r"train\.label_smoothing=1\.0: Input should be less than 1",
        ),
        (
            {"fusion__kind": {"kind": "choice", "values": ["gated", "magic"]}},
            r"fusion\.kind='magic': Input should be 'concat', 'gated'",
        ),
        (
            {"text_encoder__width": {"kind": "int", "low": 18, "high": 20}},
            r"text_encoder\.heads=4 does not divide text_encoder\.width=18",
        ),
    ],
)
def test_what_cannot_be_searched_is_named_with_what_could(
    entries: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(**entries)
    assert str(caught.value).startswith("s.yaml: ")


def test_a_file_that_is_no_space_says_how_one_looks(tmp_path: Path) -> None:
    for text, said in (
        ("", r"write each as train\.learning_rate: {kind"),
        ("- a\n", "write each as"),
        ("a: [", "cannot be read as YAML"),
    ):
        (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            space.load(tmp_path / "space.yaml", Run())
    with pytest.raises(ConfigError, match="No such file"):
        space.load(tmp_path / "gone.yaml", Run())


def test_every_setting_that_can_be_searched_is_one_of_a_run() -> None:
    for name in space.settings():
        assert space.varied(Run(), {name: space.value(Run(), name)}) == Run()
    assert not {"train.seed", "train.freeze", "text.vectors"} & set(space.settings())


def test_a_varied_run_keeps_all_that_is_not_varied() -> None:
    """Also a default that differs between stages of one kind."""
    run = Run()
    assert run.text_encoder.dropout != Encoder().dropout
    varied = space.varied(run, {"text_encoder.width": 48, "train.l1": 0.5})
    assert varied.text_encoder == run.text_encoder.model_copy(update={"width": 48})
    assert varied.train == run.train.model_copy(update={"l1": 0.5})
    assert varied.fusion == run.fusion


def test_settings_as_a_tree_are_what_a_file_of_settings_holds() -> None:
    tree = space.nested({"train.l1": 0.5, "fusion.kind": "gated", "train.epochs": 3})
    assert tree == {"train": {"l1": 0.5, "epochs": 3}, "fusion": {"kind": "gated"}}
    assert yaml.safe_load(yaml.safe_dump(tree)) == tree


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        (Float(low=0, high=1), (0, 0.5, 1.0), (-0.1, 1.1, "a", None)),
        (LogFloat(low=0.1, high=1), (0.1, 1), (0.0, 2)),
        (Int(low=2, high=8, step=3), (2, 5, 8), (3, 11, 2.5)),
        (Choice(values=(0.0, True, "a", None)), (0.0, True, "a", None), (1, "b", False)),
    ],
)
def test_an_entry_knows_what_it_holds(
    entry: Any, inside: tuple[Any, ...], outside: tuple[Any, ...]
) -> None:
    assert all(entry.holds(value) for value in inside)
    assert not any(entry.holds(value) for value in outside)
