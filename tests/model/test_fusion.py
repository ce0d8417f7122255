"""Laws that hold for every fusion; then each paper's idea on a case worked by hand."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace
from itertools import combinations

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from moodal.model.fusion import (
    FUSIONS,
    Bottleneck,
    Concat,
    CrossModal,
    Encoded,
    Entry,
    Exchange,
    Fused,
    Gated,
    JointAttention,
    LowRank,
    Spec,
    Stream,
    Summary,
    TensorProduct,
)
from moodal.model.heads import HEADS
from moodal.model.heads import Spec as HeadSpec
from moodal.model.layers import Block
from moodal.types import MODALITIES, Seq, Subset

SPEC = Spec(width=8, rank=3, layers=2, heads=2, bottlenecks=3, dropout=0.0)
SIZES = {"text": 5, "image": 4, "audio": 7}
SUBSETS: list[Subset] = [s for n in (1, 2, 3) for s in combinations(MODALITIES, n)]


@pytest.fixture(params=FUSIONS)
def kind(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


def built(kind: str, modalities: Subset = MODALITIES) -> nn.Module:
    return FUSIONS[kind](modalities, SPEC).eval()


def encoded(*subsets: Subset, extra: int = 0, filler: float = 0.0) -> Encoded:
    """One record a subset, modality m real over a third of its positions and more."""
    given = {}
    for m, size in SIZES.items():
        n = torch.tensor([max(1, size - i) * (m in s) for i, s in enumerate(subsets)])
        mask = torch.arange(size + extra) < n.unsqueeze(1)
        x = torch.randn(len(subsets), size + extra, 8)
        given[m] = Seq(x.masked_fill(~mask.unsqueeze(2), filler), mask)
    return given


def filled(given: Encoded, filler: float) -> Encoded:
    return {m: Seq(s.x.masked_fill(~s.mask.unsqueeze(2), filler), s.mask) for m, s in given.items()}


def close(one: Fused, two: Fused) -> None:
    for a, b in zip((*one.summary, *one.all), (*two.summary, *two.all), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_every_subset_gets_a_finite_answer_of_its_own(kind: str) -> None:
    torch.manual_seed(1)
    whole = encoded(*[MODALITIES] * 7)
    one = {m: Seq(s.x[:1].expand(7, -1, -1), s.mask[:1].expand(7, -1)) for m, s in whole.items()}
    hidden = {
        m: Seq(s.x, s.mask & torch.tensor([[m in subset] for subset in SUBSETS]))
        for m, s in one.items()
    }
    (x, mask), _ = built(kind)(hidden)
    assert (x.shape, mask.shape) == ((7, 1, 8), (7, 1))
    assert x.isfinite().all()
    assert mask.all()
    apart = torch.cdist(x[:, 0], x[:, 0]) + 9 * torch.eye(7)
    assert apart.min() > 1e-2
    assert x.abs().amax() < 10 * x.abs().amax((1, 2)).min()  # one speaks on the scale of three


def test_a_record_without_anything_is_finite_and_not_real(kind: str) -> None:
    (x, mask), everything = built(kind)(encoded((), MODALITIES))
    assert mask.tolist() == [[False], [True]]
    assert x[0].abs().sum() == 0
    assert not everything.mask[0].any()
    assert everything.x.isfinite().all()


def test_what_hides_under_a_mask_changes_nothing(kind: str) -> None:
    fusion, given = built(kind), encoded(*SUBSETS)
    for garbage in (1e3, math.nan):
        close(fusion(given), fusion(filled(given, garbage)))


def test_a_record_is_answered_as_if_it_were_alone(kind: str) -> None:
    fusion, given = built(kind), encoded(*SUBSETS, extra=3, filler=1e3)
    among = fusion(given)
    for i in range(len(SUBSETS)):
        n = {m: max(1, int(s.mask[i].sum())) for m, s in given.items()}
        alone = fusion(
            {m: Seq(s.x[i : i + 1, : n[m]], s.mask[i : i + 1, : n[m]]) for m, s in given.items()}
        )
        torch.testing.assert_close(among.summary.x[i], alone.summary.x[0], atol=1e-5, rtol=0)
        real = among.all.x[i][among.all.mask[i]]
        torch.testing.assert_close(real, alone.all.x[alone.all.mask], atol=1e-5, rtol=0)


def test_the_order_of_names_does_not_matter(kind: str) -> None:
    torch.manual_seed(3)
    forth = built(kind, MODALITIES)
    torch.manual_seed(3)
    back = built(kind, MODALITIES[::-1])
    given = encoded(*SUBSETS)
    close(forth(given), back(dict(reversed(given.items()))))


def test_everything_is_the_real_positions_padded_to_the_right(kind: str) -> None:
    given = encoded(*SUBSETS)
    _, (x, mask) = built(kind)(given)
    assert mask.sum(1).tolist() == sum(s.mask.sum(1) for s in given.values()).tolist()
    assert (mask[:, :-1] >= mask[:, 1:]).all()
    assert x[~mask].abs().sum() == 0


@pytest.mark.parametrize("modalities", SUBSETS, ids="-".join)
def test_gradients_reach_all_parameters(kind: str, modalities: Subset) -> None:
    fusion = FUSIONS[kind](modalities, SPEC)
    (x, _), everything = fusion(encoded(MODALITIES, *SUBSETS))
    (x * torch.randn(x.shape)).sum().backward(retain_graph=True)
    if kind in ("attention", "bottleneck"):
        (everything.x * torch.randn(everything.x.shape)).sum().backward()
    starved = {
        n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    }
    # A softmax sees neither what is added to every key nor the gates of a single modality.
    unseen = ("key.bias", "gates.weight", "gates.bias") if len(modalities) == 1 else ("key.bias",)
    assert all(n.endswith(unseen) for n in starved), starved


class Flat(nn.Module):
    """ONNX graphs take plain tensors: x and mask of each modality in turn."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.heads = nn.ModuleList(build(HeadSpec(width=8, n_out=3)) for build in HEADS.values())

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        out = self.fusion({m: Seq(*pair) for m, pair in zip(MODALITIES, pairs, strict=True)})
        return (*out.summary, *out.all, *(t for head in self.heads for t in head(out)))


def flat(given: Encoded) -> dict[str, Tensor]:
    return {f"{m}_{part}": t for m in MODALITIES for part, t in given[m]._asdict().items()}


def exported(model: nn.Module, inputs: dict[str, Tensor]) -> onnxruntime.InferenceSession:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            file,
            dynamo=False,
            opset_version=18,
            input_names=list(inputs),
            dynamic_axes={name: {0: "B", 1: f"S_{name.split('_')[0]}"} for name in inputs},
        )
    return onnxruntime.InferenceSession(file.getvalue())


def test_the_exported_graph_answers_alike_at_any_size(kind: str) -> None:
    model = Flat(FUSIONS[kind](MODALITIES, replace(SPEC, layers=1))).eval()
    session = exported(model, flat(encoded(MODALITIES, ("text",))))
    for given in (encoded(("image",)), encoded(*SUBSETS, extra=6, filler=1e3)):
        inputs = flat(given)
        found = session.run(None, {name: t.numpy() for name, t in inputs.items()})
        for ours, expected in zip(found, model(*inputs.values()), strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), expected, atol=1e-4, rtol=0)


# By hand


def vectors(*values: float | None) -> Seq[Tensor]:
    """One record, one value a modality (D = 1), None = absent."""
    x = torch.tensor([[[v or 0.0] for v in values]])
    return Seq(x, torch.tensor([[v is not None for v in values]]))


def fill(layer: nn.Module, weight: list[list[float]], bias: list[float] | float = 0.0) -> None:
    layer.weight.data = torch.tensor(weight)
    if layer.bias is not None:
        layer.bias.data = torch.as_tensor(bias).expand(len(weight)).clone()


def test_concat_by_hand() -> None:
    concat = Concat(2, 1)
    fill(concat.hidden, [[2.0, -1.0]], 1.0)
    gelu = 2 * 0.5 * (1 + math.erf(2 / math.sqrt(2)))
    assert concat(vectors(1.0, 1.0)).item() == pytest.approx(gelu)  # 2 - 1 + 1
    assert concat(vectors(0.5, None)).item() == pytest.approx(gelu)  # 1 + 1


def test_gates_by_hand() -> None:
    gated = Gated(2, 1)
    for value in gated.values:
        fill(value, [[1.0]])
    fill(gated.gates, [[0.0, 0.0], [0.0, math.log(3) / 2]])
    expected = 0.25 * math.tanh(1) + 0.75 * math.tanh(2)  # gates: softmax of 0 and log 3
    assert gated(vectors(1.0, 2.0)).item() == pytest.approx(expected)
    assert gated(vectors(1.0, None)).item() == pytest.approx(math.tanh(1))
    assert gated(vectors(None, 2.0)).item() == pytest.approx(math.tanh(2))
    assert gated(vectors(None, None)).item() == 0


def test_two_gates_are_the_sigmoid_of_the_paper() -> None:
    torch.manual_seed(0)
    gated, x = Gated(2, 3), torch.randn(4, 2, 3)
    scores = gated.gates(x.flatten(1))
    z = (scores[:, :3] - scores[:, 3:]).sigmoid()
    one, two = (value(x[:, i]).tanh() for i, value in enumerate(gated.values))
    found = gated(Seq(x, torch.ones(4, 2, dtype=torch.bool)))
    torch.testing.assert_close(found, z * one + (1 - z) * two)


def test_tensor_product_by_hand() -> None:
    product = TensorProduct(2, 1, 1)
    for shrink in product.shrink:
        fill(shrink, [[1.0]], 0.5)
    a, b = math.tanh(1.5), math.tanh(2.5)
    torch.testing.assert_close(product(vectors(1.0, 2.0)), torch.tensor([[a * b, a, b, 1]]))
    torch.testing.assert_close(product(vectors(1.0, None)), torch.tensor([[0, a, 0, 1]]))


def test_a_tensor_product_without_one_modality_is_that_of_one_order_less() -> None:
    torch.manual_seed(0)
    three, two = TensorProduct(3, 4, 2), TensorProduct(2, 4, 2)
    two.shrink[0].load_state_dict(three.shrink[0].state_dict())
    two.shrink[1].load_state_dict(three.shrink[2].state_dict())
    x = torch.randn(1, 3, 4)
    found = three(Seq(x, torch.tensor([[True, False, True]]))).reshape(3, 3, 3)
    expected = two(Seq(x[:, ::2], torch.ones(1, 2, dtype=torch.bool))).reshape(3, 3)
    torch.testing.assert_close(found[:, 2], expected)
    assert found[:, :2].abs().sum() == 0


def test_low_rank_by_hand() -> None:
    lowrank = LowRank(2, 1, 2)
    fill(lowrank.factors[0], [[1.0], [2.0]], [1.0, -1.0])
    fill(lowrank.factors[1], [[3.0], [0.0]], [0.0, 1.0])
    # rank 1: (x + 1) * 3y; rank 2: (2x - 1) * 1
    assert lowrank(vectors(2.0, 5.0)).item() == pytest.approx(3 * 15 + 3 * 1)
    assert lowrank(vectors(2.0, None)).item() == pytest.approx(3 * 0 + 3 * 1)
    assert lowrank(vectors(None, 5.0)).item() == pytest.approx(1 * 15 - 1 * 1)


def test_low_rank_starts_with_factors_near_one() -> None:
    assert LowRank(2, 1, 3)(vectors(None, None)).item() == 3  # one a rank


def test_low_rank_is_the_tensor_product_with_a_weight_tensor_of_that_rank() -> None:
    torch.manual_seed(0)
    lowrank, x = LowRank(2, 3, 2), torch.randn(1, 2, 3)
    nn.init.normal_(lowrank.factors[0].bias)
    parts = [torch.cat([f.weight, f.bias.unsqueeze(1)], 1) for f in lowrank.factors]
    one, two = (p.reshape(2, 3, 4) for p in parts)  # (rank, D, D + 1)
    weights = torch.einsum("rdi,rdj->dij", one, two)
    h = torch.cat([x, torch.ones(1, 2, 1)], 2)
    expected = torch.einsum("dij,bi,bj->bd", weights, h[:, 0], h[:, 1])
    found = lowrank(Seq(x, torch.ones(1, 2, dtype=torch.bool)))
    torch.testing.assert_close(found, expected)


def plain(block: Block) -> Block:
    """x + the mean of the normalised source: no query prefers, no feed-forward speaks."""
    attention, identity = block.attention, torch.eye(2).tolist()
    fill(attention.query, torch.zeros(2, 2).tolist())
    fill(attention.value, identity)
    fill(attention.out, identity)
    fill(block.feed_forward[-1], torch.zeros(2, 4).tolist())
    return block


def pairs(*rows: tuple[float, float]) -> Seq[Tensor]:
    """One record, D = 2. A layer norm of two values is +1 for the greater, -1 for the smaller."""
    x = torch.tensor([rows], dtype=torch.float32)
    return Seq(x, torch.ones(1, len(rows), dtype=torch.bool))


def test_a_stream_of_crossmodal_attention_by_hand() -> None:
    stream = Stream(2, 1, layers=1, dropout=0)
    plain(stream.blocks.layers[0])
    fill(stream.mix, [[2.0, 0.0], [0.0, 1.0]])
    source = pairs((5, 0), (2, 7), (9, 1))  # normalised (1, -1), (-1, 1), (1, -1)
    found = stream(torch.tensor([[[3.0, 1.0]]]), source)
    expected = torch.tensor([[[2 * (3 + 1 / 3), 1 - 1 / 3]]])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    absent = Seq(source.x, ~source.mask)
    assert stream(torch.tensor([[[3.0, 1.0]]]), absent).abs().sum() == 0


def test_crossmodal_targets_hear_every_other_modality() -> None:
    fusion = CrossModal(("text", "image"), 2, layers=1, heads=1, dropout=0)
    for stream in fusion.streams.values():
        plain(stream.blocks.layers[0])
        fill(stream.mix, torch.eye(2).tolist())
    for own in fusion.own.values():
        plain(own.layers[0])
    fusion.entry = nn.Identity()
    given = {"text": pairs((3, 1)), "image": pairs((0, 4), (0, 6))}
    # text hears (-1, 1): (3, 1) + (3 - 1, 1 + 1) = (5, 3); then itself, (1, -1): (6, 2).
    # image hears (1, -1): (0, 4) + (1, 3), (0, 6) + (1, 5) = (1, 7), (1, 11); itself: (-1, 1).
    expected = torch.tensor([[6.0, 2.0], [0.0, 8.0], [0.0, 12.0]])
    torch.testing.assert_close(fusion(given).all.x[0], expected, atol=1e-4, rtol=0)


def test_joint_attention_by_hand() -> None:
    fusion = JointAttention(("text", "audio"), 2, layers=1, heads=1, dropout=0)
    plain(fusion.blocks.layers[0])
    fusion.entry = fusion.norm = nn.Identity()
    fusion.token.data = torch.tensor([[[2.0, 0.0]]])
    found = fusion({"text": pairs((0, 3)), "audio": pairs((5, 1), (4, 2))})
    # normalised (1, -1), (-1, 1), (1, -1), (1, -1): mean (0.5, -0.5)
    expected = torch.tensor([[2.5, -0.5], [0.5, 2.5], [5.5, 0.5], [4.5, 1.5]])
    both = torch.cat([found.summary.x, found.all.x], 1)[0]
    torch.testing.assert_close(both, expected, atol=1e-4, rtol=0)


def test_an_exchange_over_bottlenecks_by_hand() -> None:
    layer = Exchange(2, 2, 1, dropout=0)
    for block in layer.blocks:
        plain(block)
    shared = torch.tensor([[[2.0, 0.0]]])
    one, two = pairs((0, 3)), pairs((1, 5), (2, 4), (0, 1))
    # one: mean of (1, -1) and (-1, 1) = (0, 0); two: of (1, -1) and three (-1, 1) = (-0.5, 0.5)
    found, (first, second) = layer(shared, [one, two])
    torch.testing.assert_close(found, torch.tensor([[[1.75, 0.25]]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.x, one.x, atol=1e-4, rtol=0)
    expected = torch.tensor([[[0.5, 5.5], [1.5, 4.5], [-0.5, 1.5]]])
    torch.testing.assert_close(second.x, expected, atol=1e-4, rtol=0)
    found, _ = layer(shared, [Seq(one.x, ~one.mask), two])
    torch.testing.assert_close(found, torch.tensor([[[1.5, 0.5]]]), atol=1e-4, rtol=0)


def test_modalities_meet_only_through_the_bottleneck() -> None:
    torch.manual_seed(0)
    given = encoded(MODALITIES)
    changed = {**given, "audio": Seq(-given["audio"].x, given["audio"].mask)}
    for layers, heard in ((1, False), (2, True)):
        fusion = Bottleneck(MODALITIES, 8, layers=layers, heads=2, bottlenecks=2, dropout=0).eval()
        nn.init.normal_(fusion.tokens)
        change = (fusion(given).all.x - fusion(changed).all.x)[:, : SIZES["text"]]
        assert (change.abs().max() > 1e-4) == heard


def test_an_entry_marks_modality_and_position() -> None:
    entry = Entry(("text", "image"), 2)
    entry.names.data = torch.tensor([[10.0, 20.0], [0.0, 0.0]])
    first, second = entry([pairs((5, 0), (5, 0)), pairs((5, 0))])
    expected = torch.tensor([[11.0, 20.0], [11 + math.sin(1), 19 + math.cos(1)]])
    torch.testing.assert_close(first.x[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(second.x[0, 0], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)


def test_a_summary_is_told_who_spoke() -> None:
    summary = Summary(2, 2, 2, dropout=0)
    summary.norm = nn.Identity()
    fill(summary.mix, [[1.0, 0.0], [0.0, 1.0]])
    fill(summary.presence, [[10.0, 0.0], [0.0, 20.0]])
    found = summary(torch.tensor([[1.0, 2.0]] * 2), torch.tensor([[True, False], [True, True]]))
    assert found.tolist() == [[11, 2], [11, 22]]
