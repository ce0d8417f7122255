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

# fusion, head, (kind of input, encoder) of text, image and audio: every word at least once.
CASES = [
    ("concat", "mlp", ("tokens", "bag"), ("picture", "cnn"), ("frames", "cnn")),
    ("gated", "cnn", ("tokens", "cnn"), ("vectors", "mlp"), ("frames", "gru")),
    ("tensor", "mlp", ("tokens", "gru"), ("vectors", "gru"), ("frames", "lstm")),
    ("lowrank", "mlp", ("tokens", "lstm"), ("vectors", "lstm"), ("frames", "transformer")),
    ("crossmodal", "mlp", ("tokens", "transformer"), ("vectors", "mlp"), ("vectors", "mlp")),
    ("attention", "cnn", ("vectors", "mlp"), ("picture", "cnn"), ("vectors", "lstm")),
    ("bottleneck", "mlp", ("vectors", "gru"), ("vectors", "mlp"), ("vectors", "mlp")),
]


def test_the_cases_hold_every_fusion_head_and_encoder() -> None:
    assert {case[0] for case in CASES} == set(FUSIONS)
    assert {case[1] for case in CASES} == set(HEADS)
    covered = {pair for case in CASES for pair in case[2:]}
    assert covered == {(kind, name) for kind, known in REGISTRIES.items() for name in known}


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_graphs_say_what_the_network_says(exported: Make, drawn: Make, case: Any) -> None:
    fusion, head, *parts = case
    kinds = dict(zip(("text", "image", "audio"), (kind for kind, _ in parts), strict=True))
    settings = [f"fusion.kind={fusion}", f"head.kind={head}"]
    settings += [f"{m}_encoder.kind={name}" for m, (_, name) in zip(kinds, parts, strict=True)]
    network, sessions, _ = exported(*settings, kinds=kinds)
    # Other numbers of rows and other lengths than the two short rows that were traced; some rows
    # lack a modality, and in the last batch all lack all but one.
    batches = [drawn(network, kinds, n_rows=n, seed=n) for n in (5, 2)]
    alone = drawn(network, kinds, n_rows=3, seed=3)["text"]
    alone.mask[:, 0] = True
    worst = parity.check(network, sessions, [*batches, {"text": alone}])
    assert 0 <= worst < 1e-4
    with torch.inference_mode():
        answers = network(batches[0]).answer
    assert len({tuple(row.tolist()) for row in answers}) == 5, "rows that differ answer differently"


@pytest.fixture
def small(exported: Make) -> Any:
    return exported("text_encoder.kind=bag", kinds={"text": "tokens"})


def test_a_network_that_changed_after_its_export_is_found(small: Any, drawn: Make) -> None:
    network, sessions, kinds = small
    inputs = drawn(network, kinds)
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
        parity.check(network, sessions, [drawn(network, kinds), drawn(network, kinds)])


def test_answers_of_any_size_are_compared_by_their_own_size(exported: Make, drawn: Make) -> None:
    # float32 holds seven digits: at a million it cannot tell answers a hundredth apart.
    kinds = {"text": "tokens"}
    network, sessions, _ = exported("text_encoder.kind=bag", kinds=kinds, scale=1e6)
    inputs = drawn(network, kinds)
    with torch.inference_mode():
        assert network(inputs).answer.abs().max() > 1e5
    assert parity.check(network, sessions, [inputs]) < 1e-5


def test_the_network_is_left_ready_to_answer(small: Any, drawn: Make) -> None:
    network, sessions, kinds = small
    network.train()
    parity.check(network, sessions, [drawn(network, kinds)])
    assert not network.training
