"""The masked sums, the attention and the recurrence, by hand and beside torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from moodal.model.layers import (
    AttentionPool,
    Bidirectional,
    Block,
    Blocks,
    MultiHeadAttention,
    Pools,
    Positions,
    SameConvolution,
    hide,
    join,
    lead,
    masked_max,
    masked_mean,
    masked_softmax,
    reorder,
    reversal,
)
from moodal.types import Seq

MASK = torch.tensor([[True, True, False], [False, False, False]])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def lengths(*n: int) -> Tensor:
    return torch.arange(max(n)) < torch.tensor(n).unsqueeze(1)


def test_softmax_shares_one_among_the_real_and_gives_nothing_where_none_is_real() -> None:
    scores = torch.tensor([[0.0, math.log(3), 1e3], [1.0, 2.0, 3.0]])
    expected = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(masked_softmax(scores, MASK), expected)


def test_mean_and_maximum_by_hand() -> None:
    x = torch.tensor([[[-1.0], [-3.0], [1e3]], [[1e3], [1e3], [1e3]]])
    torch.testing.assert_close(masked_mean(x, MASK), torch.tensor([[-2.0], [0.0]]))
    torch.testing.assert_close(masked_max(x, MASK), torch.tensor([[-1.0], [0.0]]))


def test_hidden_values_do_not_come_back_even_if_they_are_no_numbers() -> None:
    x = torch.full((2, 3, 1), math.nan)
    x[0, :2] = 7
    assert hide(Seq(x, MASK)).x.flatten().tolist() == [7, 7, 0, 0, 0, 0]


def test_a_pool_whose_query_asks_nothing_is_the_mean() -> None:
    pool, x = AttentionPool(4), torch.randn(2, 3, 4)
    nn.init.zeros_(pool.query.weight)
    torch.testing.assert_close(pool(x, MASK), masked_mean(x, MASK))


def test_a_pool_looks_where_its_query_points() -> None:
    pool, x = AttentionPool(2), torch.tensor([[[0.0, 5.0], [math.log(3), 9.0]]])
    pool.query.weight.data = torch.tensor([[1.0, 0.0]])
    found = pool(x, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[0.75 * math.log(3), 0.25 * 5 + 0.75 * 9]]))


def test_pools_leave_an_absent_sequence_at_zero() -> None:
    parts = [Seq(torch.randn(2, 3, 4), MASK), Seq(torch.randn(2, 5, 4), lengths(2, 5))]
    x, mask = Pools(2, 4)(parts)
    assert mask.tolist() == [[True, True], [False, True]]
    assert x[1, 0].abs().sum() == 0
    assert x[mask].abs().sum(1).min() > 0.1


def copied(heads: int) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    ours = MultiHeadAttention(8, heads)
    torchs = nn.MultiheadAttention(8, heads, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    torchs.in_proj_weight.data = torch.cat([p.weight.data for p in parts])
    torchs.in_proj_bias.data = torch.cat([p.bias.data for p in parts])
    torchs.out_proj.load_state_dict(ours.out.state_dict())
    return ours, torchs


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_that_of_torch(heads: int) -> None:
    ours, torchs = copied(heads)
    x, source, mask = torch.randn(2, 4, 8), torch.randn(2, 3, 8), lengths(2, 3)
    expected, _ = torchs(x, source, source, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, source, mask), expected)


def test_attention_with_nothing_to_look_at_answers_with_its_bias() -> None:
    attention = MultiHeadAttention(8, 2)
    found = attention(torch.randn(2, 4, 8), torch.randn(2, 3, 8), MASK)[1]
    torch.testing.assert_close(found, attention.out.bias.expand(4, 8))


def test_a_block_is_a_layer_of_torch_that_normalises_first() -> None:
    block = Block(8, 2)
    block.attention, reference = copied(2)
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=16, activation="gelu", batch_first=True, norm_first=True
    )
    layer.self_attn = reference
    norm, first, _, _, second = block.feed_forward
    layer.norm2.load_state_dict(norm.state_dict())
    layer.linear1.load_state_dict(first.state_dict())
    layer.linear2.load_state_dict(second.state_dict())
    x, mask = torch.randn(2, 3, 8), lengths(2, 3)
    expected = layer.eval()(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(block.eval()(x, x, mask)[mask], expected[mask])


def test_blocks_ask_each_other_or_one_source() -> None:
    blocks, x, source = Blocks(8, 2, layers=2), torch.randn(1, 3, 8), torch.randn(1, 2, 8)
    everything = torch.ones(1, 3, dtype=torch.bool)
    one, two = blocks.layers
    step = one(x, x, everything)
    torch.testing.assert_close(blocks(x, everything), two(step, step, everything))
    step = two(one(x, source, everything[:, :2]), source, everything[:, :2])
    torch.testing.assert_close(blocks(x, everything[:, :2], source), step)


def test_positions_are_sines_and_cosines() -> None:
    added = Positions(4)(torch.zeros(1, 3, 4))[0, 2]
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    torch.testing.assert_close(added, torch.tensor(expected))
    assert Positions(5)(torch.zeros(1, 400, 5)).shape == (1, 400, 5)


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_both_directions_are_those_of_a_packed_sequence(cell: type[nn.GRU]) -> None:
    ours = Bidirectional(cell, 3, 2)
    torchs = cell(3, 2, batch_first=True, bidirectional=True)
    for name, values in ours.forth.named_parameters():
        getattr(torchs, name).data = values.data
    for name, values in ours.back.named_parameters():
        getattr(torchs, f"{name}_reverse").data = values.data
    x, n = torch.randn(3, 5, 3), (5, 2, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(n), True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(torchs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(Seq(x, lengths(*n))).x, expected)


def test_reversal_turns_the_real_part_and_undoes_itself() -> None:
    turn = reversal(lengths(3, 5, 0))
    assert turn.tolist() == [[2, 1, 0, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]
    x = torch.randn(3, 5, 2)
    torch.testing.assert_close(reorder(reorder(x, turn), turn), x)


def test_joined_sequences_keep_their_order_and_their_padding_goes_right() -> None:
    one = Seq(torch.tensor([[[1.0], [9.0]], [[9.0], [9.0]]]), lengths(1, 2) & MASK[:, :2])
    two = Seq(torch.tensor([[[2.0], [3.0]], [[4.0], [9.0]]]), lengths(2, 1))
    x, mask = join([one, two])
    assert x.squeeze(2).tolist() == [[1, 2, 3, 0], [4, 0, 0, 0]]
    assert mask.tolist() == [[True, True, True, False], [True, False, False, False]]


def test_tokens_that_lead_are_real_even_before_an_absent_sequence() -> None:
    x, mask = lead(torch.ones(1, 2, 4), Seq(torch.zeros(2, 3, 4), MASK))
    assert x[:, :2].min() == 1
    assert mask.sum(1).tolist() == [4, 2]


@pytest.mark.parametrize(("size", "expected"), [(1, [1, 2, 3]), (2, [3, 5, 3]), (3, [3, 6, 5])])
def test_a_same_convolution_keeps_the_length(size: int, expected: list[int]) -> None:
    convolution = SameConvolution(1, 1, size)
    nn.init.ones_(convolution.convolution.weight)
    nn.init.zeros_(convolution.convolution.bias)
    y = convolution(torch.tensor([[[1.0], [2.0], [3.0]]]))
    assert y.flatten().tolist() == expected


def test_a_pool_under_mixed_precision_gives_no_weight_to_what_is_absent() -> None:
    """Its scores are of another type than what it weighs."""
    pool, x = AttentionPool(4), torch.randn(2, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        among = pool(x, MASK)
        alone = pool(x[:1, :2], MASK[:1, :2])
    torch.testing.assert_close(among[:1], alone, atol=0.02, rtol=0.02)
