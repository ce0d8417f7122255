"""Masking, batching and export laws of the decoder; that it learns, and what it never says."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from moodal.model.decoder import Decoder, Memory, token_loss
from moodal.preprocess.symbols import END, PADDING, START, UNKNOWN
from moodal.types import Seq

B, S, T, D, C = 3, 6, 5, 8, 12
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


@pytest.fixture(params=CELLS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(C, D, cell=CELLS[request.param]).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)  # so that what is heard is told
    return made


def given(*lengths: int, extra: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, mask, source, summary of records of such lengths."""
    torch.manual_seed(1)
    mask = torch.arange(S + extra) < torch.tensor(lengths).unsqueeze(1)
    x = torch.randn(len(lengths), S, D)
    source = torch.randint(END + 1, C, (len(lengths), S))
    x, source = (torch.cat([a, torch.zeros_like(a)[:, :extra]], 1) for a in (x, source))
    summary = torch.randn(len(lengths), D)
    return x.masked_fill(~mask.unsqueeze(2), 0), mask, source.masked_fill(~mask, 0), summary


def answers(*lengths: int) -> Seq[Tensor]:
    """(B, T) symbols that end with END."""
    torch.manual_seed(2)
    n = torch.tensor(lengths).unsqueeze(1)
    here = torch.arange(T)
    x = torch.randint(END + 1, C, (len(lengths), T)).masked_fill(here == n - 1, END)
    return Seq(x.masked_fill(here >= n, 0), here < n)


def stepped(
    decoder: Decoder, heard: tuple[Tensor, Tensor, Tensor, Tensor], symbols: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T, C) and attention (B, T, S), one step after the other."""
    memory, state = decoder.remember(*heard)
    previous = torch.full_like(symbols[:, 0], START)
    logs, looks = [], []
    for now in symbols.unbind(1):
        log, state, look = decoder.step(previous, state, memory)
        logs.append(log)
        looks.append(look)
        previous = now
    return torch.stack(logs, 1), torch.stack(looks, 1)


def close(one: Tensor, two: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, two, atol=atol, rtol=0)


def test_steps_say_what_forward_says(decoder: Decoder) -> None:
    heard, targets = given(6, 3, 1), answers(5, 2, 3)
    whole = decoder(*heard, targets)
    close(stepped(decoder, heard, targets.x)[0][targets.mask], whole.x[targets.mask])
    assert torch.equal(whole.mask, targets.mask)


def test_an_answer_is_a_distribution_without_padding_and_start(decoder: Decoder) -> None:
    heard = given(6, 3, 1)
    for symbol in (PADDING, START):
        heard[2][:, 0] = symbol  # not even by copying
        shares, looks = stepped(decoder, heard, answers(5, 5, 5).x)
        close(shares.exp().sum(2), torch.ones(B, T))
        assert shares[..., [PADDING, START]].exp().max() < 1e-8
    close(looks.sum(2), torch.ones(B, T))
    assert looks[~heard[1].unsqueeze(1).expand_as(looks)].eq(0).all()


def test_what_lies_under_a_false_mask_changes_nothing(decoder: Decoder) -> None:
    (x, mask, source, summary), targets = given(6, 3, 1), answers(5, 2, 3)
    wild = x.masked_fill(~mask.unsqueeze(2), math.nan), mask, source.masked_fill(~mask, 7), summary
    others = Seq(targets.x.masked_fill(~targets.mask, 10 * C), targets.mask)
    one, two = decoder(x, mask, source, summary, targets), decoder(*wild, others)
    assert torch.equal(one.x[one.mask], two.x[two.mask])
    assert torch.equal(token_loss(one, targets), token_loss(two, others))


def test_a_batch_answers_as_if_alone(decoder: Decoder) -> None:
    heard, targets = given(6, 3, 1, extra=4), answers(5, 2, 3)
    logs, looks = stepped(decoder, heard, targets.x)
    for b, n in enumerate((6, 3, 1)):
        x, mask, source, summary = (part[b : b + 1] for part in heard)
        alone = x[:, :n], mask[:, :n], source[:, :n], summary
        log, look = stepped(decoder, alone, targets.x[b : b + 1])
        close(log, logs[b : b + 1])
        close(look, looks[b : b + 1, :, :n])


def test_a_symbol_that_is_looked_at_is_said(decoder: Decoder) -> None:
    """Of two records that differ in what stands at a position alone, so do the answers there."""
    heard = given(4, 4)
    heard = tuple(part[:1].expand(2, *part.shape[1:]).clone() for part in heard)
    heard[2][:, :4] = torch.tensor([[5, 6, 7, 8], [5, 6, 7, UNKNOWN]])
    memory, state = decoder.remember(*heard)
    logs, _, attention = decoder.step(torch.tensor([START, START]), state, memory)
    one, two = logs.exp()
    given_up = two[UNKNOWN] - one[UNKNOWN]
    assert given_up > 1e-3
    close(one[8] - two[8], given_up)
    # By hand: the share that is copied times the attention to position 3.
    assert 0 < given_up < attention[0, 3]


def test_without_symbols_to_copy_only_the_vocabulary_speaks(decoder: Decoder) -> None:
    x, mask, source, summary = given(4, 4, 0)
    source[0] = PADDING  # a picture
    with torch.no_grad():
        first = decoder(x, mask, source, summary, answers(5, 5, 5)).x
        decoder.generate.bias += 100  # copies nothing
        second = decoder(x, mask, source, summary, answers(5, 5, 5)).x
    assert first.isfinite().all()
    close(first[0], second[0])
    close(first[2], second[2])
    assert (first[1] - second[1]).abs().max() > 0.1


def test_every_parameter_learns(decoder: Decoder) -> None:
    heard, targets = given(6, 3, 2), answers(5, 2, 3)
    token_loss(decoder(*heard, targets), targets).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_embedding_can_be_shared() -> None:
    shared = nn.Embedding(C, 5)  # narrower than D
    decoder = Decoder(C, D, embedding=shared)
    assert decoder.embedding is shared
    assert decoder(*given(6, 3), answers(5, 2)).x.shape == (2, T, C)


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_to_copy(cell: str) -> None:
    """Four symbols, in another order each time, are to be said as they stand."""
    torch.manual_seed(0)
    n_symbols, n = 24, 4
    embedding = nn.Embedding(n_symbols, 32)
    reader = nn.GRU(32, 32, batch_first=True)
    decoder = Decoder(n_symbols, 32, embedding=embedding, cell=CELLS[cell])
    parts = nn.ModuleList([embedding, reader, decoder])
    optimiser = torch.optim.Adam(parts.parameters(), lr=5e-3)
    mask = torch.ones(16, n, dtype=torch.bool)
    for _ in range(250):
        source = torch.randint(END + 1, n_symbols, (16, n))
        targets = Seq(nn.functional.pad(source, (0, 1), value=END), mask[:, :1].expand(-1, n + 1))
        x, last = reader(embedding(source))
        loss = token_loss(decoder(x, mask, source, last[0], targets), targets).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05


def test_token_loss_by_hand() -> None:
    shares = torch.tensor([[[0.0, 0.1, 0.0, 0.2, 0.3, 0.4], [0.0, 0.25, 0.0, 0.25, 0.25, 0.25]]])
    logs = Seq((shares + 1e-9).log(), torch.tensor([[True, True]]))
    targets = Seq(torch.tensor([[4, END]]), torch.tensor([[True, True]]))
    right = -(math.log(0.3) + math.log(0.25)) / 2
    close(token_loss(logs, targets), torch.tensor([right]))
    even = -(math.log(0.1 * 0.2 * 0.3 * 0.4) / 4 + math.log(0.25)) / 2  # over four, not six
    close(token_loss(logs, targets, smoothing=0.2), torch.tensor([0.8 * right + 0.2 * even]))


class _Remember(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor, mask: Tensor, summary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        source = torch.zeros_like(mask, dtype=torch.int64)  # it is passed on, no more
        memory, state = self.decoder.remember(x, mask, source, summary)
        return memory.x, memory.keys, state


class _Step(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, previous: Tensor, state: Tensor, x: Tensor, keys: Tensor, mask: Tensor, source: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.decoder.step(previous, state, Memory(x, keys, mask, source))


def exported(
    module: nn.Module, example: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> onnxruntime.InferenceSession:
    flat = {"summary", "previous", "state", "log_probabilities", "next_state"}
    axes = {n: {0: "B"} if n in flat else {0: "B", 1: "S"} for n in (*inputs, *outputs)}
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])


def test_two_graphs_say_what_the_decoder_says(decoder: Decoder) -> None:
    heard = given(6, 3)
    with torch.no_grad():
        memory, state = decoder.remember(*heard)
    names = ["x", "mask", "summary"]
    entry = heard[0], heard[1], heard[3]
    remember = exported(_Remember(decoder), entry, names, ["seen", "keys", "state"])
    entries = ["previous", "state", "x", "keys", "mask", "source"]
    told = ["log_probabilities", "next_state", "attention"]
    example = (torch.tensor([START, START]), state, *memory)
    step = exported(_Step(decoder), example, entries, told)
    for lengths, extra in [((6, 3), 0), ((1,), 0), ((5, 6, 0, 2), 3)]:
        heard = given(*lengths, extra=extra)
        targets = answers(*[5] * len(lengths)).x
        with torch.no_grad():
            expected, looks = stepped(decoder, heard, targets)
        x, mask, source, summary = (part.numpy() for part in heard)
        seen, keys, now = remember.run(None, {"x": x, "mask": mask, "summary": summary})
        previous = np.full(len(lengths), START)
        for t in range(T):
            values = (previous, now, seen, keys, mask, source)
            logs, now, look = step.run(None, dict(zip(entries, values, strict=True)))
            np.testing.assert_allclose(logs, expected[:, t], atol=1e-4)
            np.testing.assert_allclose(look, looks[:, t], atol=1e-4)
            previous = targets[:, t].numpy()
