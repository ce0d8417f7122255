"""Answers that are sequences: a frame of sound each, or one symbol after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moodal.model.answers import Frames, Text, flat, sources, unflat
from moodal.model.decoder import Decoder
from moodal.model.fusion import FUSIONS
from moodal.model.fusion import Spec as FusionSpec
from moodal.model.heads import Each
from moodal.model.model import Network
from moodal.preprocess.symbols import END, FIRST, PADDING
from moodal.types import MODALITIES, Modality, Seq, Subset

B, S, D, C = 3, 5, 6, 11


class Same(nn.Module):
    """What it is given, as D numbers a position."""

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x = source.x
        return Seq(x if x.is_floating_point() else x.float().expand(-1, -1, D) / C, source.mask)


def frames() -> Network:
    torch.manual_seed(0)
    return ready(Network({"audio": Same()}, Frames(Each(D, C)), width=D, bias=NONE, scale=1.0))


def text(modalities: Subset = ("text",), kind: str = "gated") -> Network:
    torch.manual_seed(0)
    fusion = FUSIONS[kind](modalities, FusionSpec(width=D, heads=2))
    encoders = {m: Same() for m in modalities}
    answer = Text(fusion, Decoder(C, D), modalities)
    return ready(Network(encoders, answer, width=D, bias=NONE, scale=1.0))


NONE = torch.zeros(C)


def ready(network: Network) -> Network:
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


def sound(*lengths: int) -> dict[Modality, Seq[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(lengths), max(lengths), D, generator=generator)
    return {"audio": Seq(x, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])}


def words(*lengths: int) -> dict[Modality, Seq[Tensor]]:
    """Symbols; 0 = the row has no text."""
    generator = torch.Generator().manual_seed(2)
    longest = max(lengths)
    x = torch.randint(FIRST, C, (len(lengths), longest, 1), generator=generator, dtype=torch.int32)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return {"text": Seq(x * mask[..., None], mask)}


TARGETS = Seq(
    torch.tensor([[4, 5, 6, END], [7, END, 0, 0], [8, 9, END, 0]]),
    torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool(),
)


def told(network: Network, inputs: Any, targets: Any = None) -> Seq[Tensor]:
    with torch.inference_mode():
        answer: Seq[Tensor] = network(inputs, None, targets).answer
    return answer


def row(inputs: dict[Modality, Seq[Tensor]], place: int) -> dict[Modality, Seq[Tensor]]:
    """One row, cut to its own positions."""
    cut = {m: seq.mask[place].sum() for m, seq in inputs.items()}
    return {
        m: Seq(seq.x[place : place + 1, : cut[m]], seq.mask[place : place + 1, : cut[m]])
        for m, seq in inputs.items()
        if cut[m]
    }


def garbage(inputs: dict[Modality, Seq[Tensor]], value: float) -> dict[Modality, Seq[Tensor]]:
    """Something under every False mask."""
    return {
        m: Seq(x.masked_fill(~mask.reshape(*mask.shape, 1), value), mask)
        for m, (x, mask) in inputs.items()
    }


# Frames


def test_every_frame_has_an_answer_of_its_own() -> None:
    network, inputs = frames(), sound(5, 2, 4)
    x, mask = told(network, inputs)
    assert x.shape == (3, 5, C)
    assert torch.equal(mask, inputs["audio"].mask)
    assert (x[~mask] == 0).all()
    linear = network.answer.head.last  # type: ignore[union-attr]
    by_hand = inputs["audio"].x[2, 3] @ linear.weight.T + linear.bias  # type: ignore[union-attr,operator]
    torch.testing.assert_close(x[2, 3], by_hand)


def test_a_recording_in_a_batch_is_answered_as_if_alone() -> None:
    network, inputs = frames(), sound(5, 2, 4)
    together = told(network, inputs)
    for place in range(3):
        alone = told(network, row(inputs, place))
        assert alone.mask.all()
        torch.testing.assert_close(together.x[place][together.mask[place]], alone.x[0])


def test_what_hides_behind_a_recording_changes_nothing() -> None:
    network, inputs = frames(), sound(5, 2, 4)
    torch.testing.assert_close(
        told(network, garbage(inputs, 1e6)).x, told(network, inputs).x, atol=0, rtol=0
    )


def test_sound_that_is_all_there_is_has_no_say_of_its_own() -> None:
    assert frames()(sound(3)).auxiliary == {}
    assert text()(words(3), None, Seq(*(part[:1] for part in TARGETS))).auxiliary == {}


# Text


def test_a_text_is_a_distribution_over_the_symbols_after_each_target() -> None:
    x, mask = told(text(), words(5, 3, 1), TARGETS)
    assert x.shape == (3, 4, C)
    assert torch.equal(mask, TARGETS.mask)
    torch.testing.assert_close(x.exp().sum(2)[mask], torch.ones(int(mask.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_record_in_a_batch_is_told_as_if_alone(kind: str) -> None:
    network = text(MODALITIES, kind)
    pictures = {"image": Seq(*sound(2, 3, 0)["audio"])}
    inputs = words(4, 0, 2) | pictures | sound(0, 5, 3)
    together = told(network, inputs, TARGETS)
    for place in range(3):
        n = TARGETS.mask[place].sum()
        targets = Seq(*(part[place : place + 1, :n] for part in TARGETS))
        alone = told(network, row(inputs, place), targets)
        torch.testing.assert_close(together.x[place, :n], alone.x[0], atol=1e-5, rtol=0)


def test_what_hides_behind_a_text_or_its_target_changes_nothing() -> None:
    network, inputs = text(("text", "audio")), words(4, 0, 2) | sound(2, 5, 0)
    clean = told(network, inputs, TARGETS)
    dirty = {"text": garbage(inputs, 9)["text"], "audio": garbage(inputs, 1e6)["audio"]}
    targets = Seq(TARGETS.x.masked_fill(~TARGETS.mask, 7), TARGETS.mask)
    found = told(network, dirty, targets)
    torch.testing.assert_close(found.x[clean.mask], clean.x[clean.mask], atol=1e-5, rtol=0)


def test_a_symbol_is_told_from_those_before_it_alone() -> None:
    network, inputs = text(), words(5, 3, 1)
    other = Seq(TARGETS.x.clone(), TARGETS.mask)
    other.x[:, 1] = 10
    plain, changed = told(network, inputs, TARGETS).x, told(network, inputs, other).x
    torch.testing.assert_close(plain[:, :2], changed[:, :2], atol=0, rtol=0)
    assert (plain[0, 2] - changed[0, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["gated", "attention", "bottleneck"])
def test_steps_one_by_one_tell_what_the_whole_text_tells(kind: str) -> None:
    network = text(("text", "audio"), kind)
    inputs = words(4, 0, 2) | sound(2, 5, 0)
    whole = told(network, inputs, TARGETS).x
    answer: Any = network.answer
    with torch.inference_mode():
        encoded = network.encode(inputs)
        source = sources(encoded, inputs)
        *memory, state = answer(source, *flat(encoded, network.modalities))
        previous = torch.full((B,), 2)  # START
        for step in range(2):
            remembered = type(answer.decoder.remember(*_empty())[0])(*memory)
            logs, state, attention = answer.decoder.step(previous, state, remembered)
            torch.testing.assert_close(logs, whole[:, step], atol=1e-5, rtol=0)
            assert (attention[~remembered.mask] == 0).all()
            previous = TARGETS.x[:, step]


def _empty() -> tuple[Tensor, ...]:
    return (
        torch.zeros(1, 1, D),
        torch.ones(1, 1).bool(),
        torch.zeros(1, 1).long(),
        torch.zeros(1, D),
    )


def test_the_symbols_of_the_text_stand_before_what_has_none() -> None:
    network = text(("text", "audio"))
    inputs = words(3, 2) | sound(2, 4)
    answer: Any = network.answer
    with torch.inference_mode():
        encoded = network.encode(inputs)
        x, mask, source, summary = answer.look(
            sources(encoded, inputs), *flat(encoded, network.modalities)
        )
    assert x.shape[:2] == mask.shape == source.shape
    assert summary.shape == (2, D)
    codes, there = inputs["text"].x[..., 0], inputs["text"].mask
    assert torch.equal(source[:, :3], codes * there)
    assert (source[:, 3:] == PADDING).all()
    assert mask.sum(1).tolist() == [5, 6], "and sound follows the text's last real position"
    for row, length in enumerate((3, 2)):
        torch.testing.assert_close(x[row, :length], encoded["text"].x[row, :length])


def test_there_are_no_symbols_without_a_text_or_in_features() -> None:
    features = sound(3, 2)["audio"]
    for inputs in ({"audio": features}, {"text": features}):
        found = sources(inputs, inputs)
        assert found.shape[0] == 2
        assert found.dtype == torch.int64
        assert (found == PADDING).all()
    with_words = words(3, 2)
    found = sources(with_words, with_words)
    assert torch.equal(found, with_words["text"].x[..., 0].long())


def test_what_modality_dropout_hides_is_not_looked_at() -> None:
    network, inputs = text(("text", "audio")), words(4, 3, 2) | sound(2, 5, 3)
    keep: dict[Modality, Tensor] = {"text": torch.ones(3).bool(), "audio": torch.zeros(3).bool()}
    with torch.inference_mode():
        hidden = network(inputs, keep, TARGETS).answer.x
    absent = told(network, {"text": inputs["text"]}, TARGETS).x
    torch.testing.assert_close(hidden[TARGETS.mask], absent[TARGETS.mask], atol=1e-5, rtol=0)


def test_flat_and_unflat_undo_each_other() -> None:
    inputs = words(3, 2) | sound(2, 4)
    back = unflat(flat(inputs, ("text", "audio")), ("text", "audio"))
    assert list(back) == ["text", "audio"]
    assert all(back[m].x is inputs[m].x and back[m].mask is inputs[m].mask for m in back)


def test_gradients_reach_every_part() -> None:
    network = text(MODALITIES).train()
    pictures = {"image": Seq(*sound(2, 3, 1)["audio"])}
    answer = network(words(4, 1, 2) | pictures | sound(1, 5, 3), None, TARGETS).answer
    answer.x.gather(2, TARGETS.x.unsqueeze(2)).sum().backward()
    lost = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert lost == []
