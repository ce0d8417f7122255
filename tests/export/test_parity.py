"""What is exported says what the network says, for every encoder and every fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from moodal.errors import ModelError
from moodal.export import parity
from moodal.model.build import REGISTRIES
from moodal.model.fusion import FUSIONS
from moodal.model.heads import HEADS

Make = Callable[..., Any]
UNSEEN: Any = None
"""The targets of what has one answer a record: it is shown none."""

# fusion, head, (kind of input, encoder) of text, image and audio: every word at least once.
CASES = [
    ("concat", "mlp", ("tokens", "bag"), ("picture", "cnn"), ("frames", "cnn")),
    ("gated", "cnn", ("tokens", "cnn"), ("vectors", "mlp"), ("frames", "gru")),
    ("tensor", "mlp", ("tokens", "gru"), ("vectors", "gru"), ("frames", "lstm")),
    ("lowrank", "mlp", ("tokens", "lstm"), ("vectors", "lstm"), ("frames", "transformer")),
    (
        "crossmodal",
        "mlp",
        ("tokens", "transformer"),
        ("picture", "cnn-efficientnet"),
        ("vectors", "mlp"),
    ),
    ("concat", "cnn", ("tokens", "cnn-experts"), ("picture", "cnn"), ("vectors", "mlp")),
    ("attention", "cnn", ("vectors", "mlp"), ("picture", "cnn"), ("vectors", "lstm")),
    ("bottleneck", "mlp", ("vectors", "gru"), ("picture", "efficientnet"), ("frames", "ge2e")),
]
# task, more settings, the kinds of what is read; symbols by every encoder that reads them.
TEXTS: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    ("summarise", ("decoder.kind=gru", "text_encoder.kind=bag"), {"text": "symbols"}),
    ("summarise", ("decoder.kind=lstm", "text_encoder.kind=cnn"), {"text": "symbols"}),
    ("summarise", ("fusion.kind=attention", "text_encoder.kind=gru"), {"text": "symbols"}),
    (
        "summarise",
        ("decoder.kind=lstm", "text_encoder.kind=lstm"),
        {"text": "symbols", "image": "picture"},
    ),
    (
        "summarise",
        ("fusion.kind=bottleneck", "text_encoder.kind=transformer"),
        {"text": "symbols", "image": "vectors", "audio": "frames"},
    ),
    ("summarise", (), {"image": "picture"}),
    ("summarise", (), {"text": "vectors"}),
    ("transcribe", ("audio_encoder.kind=gru",), {"audio": "frames"}),
    ("transcribe", ("audio_encoder.kind=cnn",), {"audio": "frames"}),
    ("transcribe", ("audio_encoder.kind=tdnn-gru",), {"audio": "frames"}),
    ("transcribe", ("audio_encoder.kind=tdnn-transformer",), {"audio": "frames"}),
    ("transcribe", (), {"audio": "vectors"}),
]


def test_the_cases_hold_every_fusion_head_and_encoder() -> None:
    assert {case[0] for case in CASES} == set(FUSIONS)
    assert {case[1] for case in CASES} == set(HEADS)
    covered = {pair for case in CASES for pair in case[2:]}
    covered |= {
        ("symbols", setting.removeprefix("text_encoder.kind="))
        for _, settings, kinds in TEXTS
        for setting in settings
        if setting.startswith("text_encoder") and kinds["text"] == "symbols"
    }
    covered |= {
        ("frames", setting.removeprefix("audio_encoder.kind="))
        for _, settings, _ in TEXTS
        for setting in settings
        if setting.startswith("audio_encoder")
    }
    assert covered == {(kind, name) for kind, known in REGISTRIES.items() for name in known}


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_graphs_say_what_the_network_says(
    exported: Make, drawn: Make, shown: Make, case: Any
) -> None:
    fusion, head, *parts = case
    kinds = dict(zip(("text", "image", "audio"), (kind for kind, _ in parts), strict=True))
    settings = [f"fusion.kind={fusion}", f"head.kind={head}"]
    settings += [f"{m}_encoder.kind={name}" for m, (_, name) in zip(kinds, parts, strict=True)]
    network, sessions, _ = exported(*settings, kinds=kinds)
    # Other numbers of rows and other lengths than the two short rows that were traced; some rows
    # lack a modality, and in the last batch all lack all but one.
    batches = [shown(network, kinds, n_rows=n, seed=n) for n in (5, 2)]
    alone = drawn(network, kinds, n_rows=3, seed=3)["text"]
    alone.mask[:, 0] = True
    worst = parity.check(network, sessions, [*batches, ({"text": alone}, UNSEEN)])
    assert 0 <= worst < 1e-4
    with torch.inference_mode():
        answers = network(batches[0][0]).answer.x[:, 0]
    assert len({tuple(row.tolist()) for row in answers}) == 5, "rows that differ answer differently"


@pytest.mark.parametrize("case", TEXTS, ids=[f"{c[0]} {' '.join(c[1])} {c[2]}" for c in TEXTS])
def test_the_graphs_of_texts_say_what_the_network_says_at_every_step(
    exported: Make, shown: Make, case: Any
) -> None:
    task, settings, kinds = case
    network, sessions, _ = exported(f"task={task}", *settings, kinds=kinds, scale=1.0)
    batches = [shown(network, kinds, n_rows=n, seed=n) for n in (5, 2)]
    assert 0 <= parity.check(network, sessions, batches) < 1e-4
    inputs, targets = batches[0]
    with torch.inference_mode():
        answers, mask = network(inputs, None, targets).answer
    assert len({tuple(row.tolist()) for row in answers[:, 0]}) == 5, "rows differ"
    assert mask.sum(1).unique().numel() > 1, "of several lengths"


@pytest.mark.parametrize("sure", [-25.0, 25.0])
def test_a_text_that_is_all_copied_or_all_its_own_is_exported_as_well(
    exported: Make, shown: Make, sure: float
) -> None:
    """Then 1 less the share is next to nothing, and its logarithm is not."""
    task, settings, kinds = TEXTS[0]
    network, sessions, _ = exported(f"task={task}", *settings, kinds=kinds, scale=1.0, sure=sure)
    assert parity.check(network, sessions, [shown(network, kinds)]) < 1e-4


@pytest.mark.parametrize(("task", "kinds"), [(c[0], c[2]) for c in (TEXTS[0], TEXTS[-2])])
def test_a_text_that_changed_after_its_export_is_found(
    exported: Make, shown: Make, task: str, kinds: Any
) -> None:
    network, sessions, _ = exported(f"task={task}", kinds=kinds, scale=1.0)
    taught = shown(network, kinds)
    with torch.no_grad():
        network.bias += 0.1
    with pytest.raises(ModelError, match="differ from the trained network"):
        parity.check(network, sessions, [taught])


@pytest.fixture
def small(exported: Make) -> Any:
    return exported("text_encoder.kind=bag", kinds={"text": "tokens"})


def test_a_network_that_changed_after_its_export_is_found(small: Any, drawn: Make) -> None:
    network, sessions, kinds = small
    inputs = drawn(network, kinds), UNSEEN
    parity.check(network, sessions, [inputs])
    with torch.no_grad():
        network.bias += 0.1
    with pytest.raises(
        ModelError, match=r"differ from the trained network by 0\.04.*at most 0\.001"
    ):
        parity.check(network, sessions, [inputs, inputs])


def test_what_is_not_a_number_is_no_agreement(small: Any, drawn: Make) -> None:
    network, sessions, kinds = small
    with torch.no_grad():
        network.bias.fill_(np.nan)
    with pytest.raises(ModelError, match="by nan"):
        parity.check(network, sessions, [(drawn(network, kinds), UNSEEN)] * 2)


def test_answers_of_any_size_are_compared_by_their_own_size(exported: Make, drawn: Make) -> None:
    # float32 holds seven digits: at a million it cannot tell answers a hundredth apart.
    kinds = {"text": "tokens"}
    network, sessions, _ = exported("text_encoder.kind=bag", kinds=kinds, scale=1e6)
    inputs = drawn(network, kinds)
    with torch.inference_mode():
        assert network(inputs).answer.x.abs().max() > 1e5
    assert parity.check(network, sessions, [(inputs, UNSEEN)]) < 1e-5


def test_the_network_is_left_ready_to_answer(small: Any, drawn: Make) -> None:
    network, sessions, kinds = small
    network.train()
    parity.check(network, sessions, [(drawn(network, kinds), UNSEEN)])
    assert not network.training
