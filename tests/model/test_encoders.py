"""Laws that hold for every encoder, each kind once; then what is particular to a stem or body."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from moodal.model.encoders import (
    ASIDE,
    AUDIO,
    FEATURES,
    IMAGE,
    TEXT,
    Ngrams,
    Recurrent,
    Spec,
)
from moodal.model.layers import Windows, masked_root_sum
from moodal.model.stems import (
    Bands,
    Beside,
    Experts,
    Pixels,
    Power,
    Standardise,
    Statistics,
    Tokens,
)
from moodal.types import Seq

SPEC = Spec(out=10, width=12, layers=2, heads=2)
MEAN, STD = torch.linspace(-1, 1, 7), torch.linspace(0.5, 2, 7)


GARBAGE = {torch.int64: 1000, torch.uint8: 255, torch.float32: math.nan}


class Case(NamedTuple):
    build: Callable[[], nn.Module]
    draw: Callable[[int, int], Tensor]
    aside: int = 0


def ids(B: int, S: int) -> Tensor:  # noqa: N803
    return torch.randint(0, 40, (B, S, 3))


def pixels(B: int, S: int) -> Tensor:  # noqa: N803
    return torch.randint(0, 256, (B, S, 20, 3), dtype=torch.uint8)


def frames(B: int, S: int) -> Tensor:  # noqa: N803
    return torch.randn(B, S, 7)


CASES = {
    **{f"text-{k}": Case(lambda b=b: b(40, SPEC), ids, ASIDE.get(k, 0)) for k, b in TEXT.items()},
    **{f"image-{k}": Case(lambda b=b: b(SPEC), pixels) for k, b in IMAGE.items()},
    **{f"audio-{k}": Case(lambda b=b: b(MEAN, STD, SPEC), frames) for k, b in AUDIO.items()},
    **{f"features-{k}": Case(lambda b=b: b(MEAN, STD, SPEC), frames) for k, b in FEATURES.items()},
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


def settled(encoder: nn.Module) -> nn.Module:
    """As after training: batch normalisation has seen something."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return encoder.eval()


def lengths(*n: int) -> Tensor:
    return torch.arange(max(n)) < torch.tensor(n).unsqueeze(1)


def garbage(x: Tensor, mask: Tensor) -> Tensor:
    shown = mask.reshape(mask.shape + (1,) * (x.dim() - 2))
    return x.masked_fill(~shown, GARBAGE[x.dtype])


def test_the_answer_has_the_common_width_and_is_zero_where_not_real(case: Case) -> None:
    x, mask = settled(case.build())(Seq(case.draw(3, 40), lengths(40, 17, 0)))
    assert x.shape == (3, mask.shape[1], 10 + case.aside)
    assert x[~mask].abs().sum() == 0
    assert mask.any(1).tolist() == [True, True, False]
    assert (mask[:, :-1] >= mask[:, 1:]).all()
    assert x[mask].isfinite().all()


def test_what_hides_under_a_mask_changes_nothing(case: Case) -> None:
    encoder, x, mask = settled(case.build()), case.draw(3, 40), lengths(40, 17, 0)
    one, _ = encoder(Seq(x, mask))
    two, _ = encoder(Seq(garbage(x, mask), mask))
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


def test_a_record_is_answered_as_if_it_were_alone(case: Case) -> None:
    encoder, x = settled(case.build()), case.draw(3, 40)
    among = encoder(Seq(garbage(x, lengths(40, 17, 0)), lengths(40, 17, 0)))
    alone = encoder(Seq(x[1:2, :17], lengths(17)))
    assert among.mask[1].sum() == alone.mask.sum()
    torch.testing.assert_close(among.x[1][among.mask[1]], alone.x[0], atol=1e-5, rtol=0)


def test_different_inputs_get_different_answers(case: Case) -> None:
    encoder = settled(case.build())
    x, mask = encoder(Seq(case.draw(2, 20), lengths(20, 20)))
    assert mask.all()
    assert (x[0] - x[1]).abs().max() > 1e-5


def test_gradients_reach_all_parameters(case: Case) -> None:
    encoder = case.build()
    x, _ = encoder(Seq(case.draw(3, 40), lengths(40, 17, 30)))
    (x * torch.randn(x.shape)).sum().backward()
    starved = [
        n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert all(n.endswith("key.bias") for n in starved), starved  # softmax does not see it


class Flat(nn.Module):
    """ONNX graphs take and give plain tensors."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(self.encoder(Seq(x, mask)))


def exported(encoder: nn.Module, x: Tensor, mask: Tensor) -> onnxruntime.InferenceSession:
    file, free = io.BytesIO(), {0: "B", 1: "S"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, and wary of RNNs
        torch.onnx.export(
            Flat(encoder).eval(),
            (x, mask),
            file,
            dynamo=False,
            opset_version=18,
            input_names=["x", "mask"],
            output_names=["y", "real"],
            dynamic_axes={"x": free, "mask": free, "y": free, "real": free},
        )
    return onnxruntime.InferenceSession(file.getvalue())


def test_the_exported_graph_answers_alike_at_any_size(case: Case) -> None:
    encoder = settled(case.build())
    session = exported(encoder, case.draw(2, 20), lengths(20, 13))
    for n in [(16,), (40, 17, 0), (33, 1, 1, 20)]:
        x, mask = case.draw(len(n), max(n)), lengths(*n)
        y, real = session.run(None, {"x": x.numpy(), "mask": mask.numpy()})
        expected = encoder(Seq(x, mask))
        assert torch.equal(torch.from_numpy(real), expected.mask)
        torch.testing.assert_close(torch.from_numpy(y), expected.x, atol=1e-4, rtol=0)


def test_a_position_is_the_weighted_sum_of_its_pieces_by_the_root_of_their_places() -> None:
    vectors, weights = torch.tensor([[9.0], [1.0], [4.0]]), torch.tensor([7.0, 2.0, 0.5])
    stem = Tokens(3, 1, weights=weights, vectors=vectors)
    pieces = torch.tensor([[[1, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]])
    x, _ = stem(Seq(pieces, lengths(3)))
    assert x.flatten().tolist() == [(2 * 1 + 0.5 * 4) / 2, 0.5 * 4 / 2, 0]


def test_given_vectors_of_another_width_are_brought_to_it() -> None:
    x, _ = TEXT["bag"](5, SPEC, vectors=torch.randn(5, 30))(
        Seq(torch.ones(1, 2, 3).long(), lengths(2))
    )
    assert x.shape == (1, 2, 10)


def test_standardised_values_are_centred_scaled_and_cut() -> None:
    stem = Standardise([1.0, 5.0, 0.0], [2.0, 0.0, 1.0])
    x, _ = stem(Seq(torch.tensor([[[5.0, 6.0, 1e6], [1.0, 5.0, -1e6]]]), lengths(2)))
    assert x.tolist() == [[[2, 1, 10], [0, 0, -10]]]


def test_pixels_of_the_mean_colour_are_zero() -> None:
    x = (255 * torch.tensor([0.485, 0.456, 0.406])).expand(1, 2, 2, 3)
    y, _ = Pixels()(Seq(x, lengths(2)))
    torch.testing.assert_close(y, torch.zeros(1, 3, 2, 2))
    y, _ = Pixels()(Seq(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), lengths(2)))
    torch.testing.assert_close(
        y[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4, rtol=0
    )


def test_a_picture_becomes_a_grid_of_a_sixteenth() -> None:
    x, mask = settled(IMAGE["cnn"](SPEC))(
        Seq(pixels(2, 96)[:, :, :1].expand(-1, -1, 96, -1), lengths(96, 96))
    )
    assert x.shape == (2, 36, 10)
    assert mask.all()


def test_the_default_picture_encoder_costs_what_a_cpu_can_pay() -> None:
    """In weights, and in products of one picture of 48 px: 25 million take about 1 ms."""
    torch.manual_seed(0)
    encoder, products = IMAGE["cnn"](Spec()).eval(), []
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, y: products.append(m.weight.numel() * y.shape[2] * y.shape[3])
            )
    encoder(Seq(torch.zeros(1, 48, 48, 3, dtype=torch.uint8), lengths(48)))
    assert sum(p.numel() for p in encoder.parameters()) <= 1_500_000
    assert 0 < sum(products) <= 25_000_000


def test_an_efficientnet_is_as_published() -> None:
    """EfficientNet-Lite0 has 4,652,008 weights; some stand behind its last stage."""
    encoder = IMAGE["efficientnet"](SPEC)
    behind = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in encoder[1].parameters()) == 4_652_008 - behind
    x, mask = settled(encoder)(Seq(pixels(1, 64)[:, :, :1].expand(-1, -1, 64, -1), lengths(64)))
    assert (x.shape, mask.all()) == ((1, 4, 10), True)


def test_photographs_are_seen_whole_beside_cells_of_a_smaller_picture() -> None:
    """The cells are those of `cnn` for the picture at 3/8, the rest is the same for all."""
    encoder, small = settled(IMAGE["cnn-efficientnet"](SPEC)), settled(IMAGE["cnn"](SPEC))
    encoder[1].path[1], encoder[2] = small[1], small[3]
    picture = pixels(1, 48)[:, :, :1].expand(-1, -1, 48, -1)
    # Each old pixel is 8 of an eighth of its size, of which the new ones are 3 x 3: the middle one.
    large = picture.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, 1::3, 1::3]
    x, mask = encoder(Seq(large, lengths(128)))
    assert (x.shape, mask.all()) == ((1, 9, 10), True)
    rest = x - small(Seq(picture, lengths(48))).x
    torch.testing.assert_close(rest, rest[:, :1].expand(-1, 9, -1))
    assert rest.abs().min() > 0


def test_bands_are_the_mean_and_the_maximum_over_frequencies() -> None:
    bands = Bands(2, 4)
    bands.mix.weight.data, bands.mix.bias.data = torch.eye(4), torch.zeros(4)
    planes = torch.tensor([[[[1.0, 5.0]], [[-2.0, -4.0]]]])  # two channels, one row
    x, _ = bands(Seq(planes, lengths(1)))
    assert x.tolist() == [[[3, -3, 5, -2]]]


def test_statistics_are_the_mean_and_deviation_of_each_band() -> None:
    statistics = Statistics(2, 4)
    statistics.linear.weight.data, statistics.linear.bias.data = torch.eye(4), torch.zeros(4)
    frames = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [math.nan, 9.0]]])
    found = statistics(Seq(frames, torch.tensor([[True, True, False]])))
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 1.0, 3.0]]), atol=1e-4, rtol=0)


def test_a_single_frame_deviates_from_nothing_and_still_teaches() -> None:
    frames = torch.ones(1, 1, 2, requires_grad=True)
    Statistics(2, 4)(Seq(frames, lengths(1))).sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_a_voice_is_one_position_however_loud_and_long() -> None:
    encoder = settled(AUDIO["ge2e"](torch.zeros(12), torch.ones(12), SPEC))
    frames = torch.randn(1, 400, 12)
    x, mask = encoder(Seq(frames, lengths(400)))
    assert (x.shape, mask.tolist()) == ((1, 1, 10), [[True]])
    louder = encoder(Seq(frames + 3, lengths(400))).x
    torch.testing.assert_close(louder, x)
    assert (encoder(Seq(frames[:, :300], lengths(300))).x - x).abs().max() > 1e-4


def test_power_is_the_mean_of_frames_at_a_time_and_one_in_all() -> None:
    power = torch.tensor([[[1.0, 3], [2, 2], [5, 7], [GARBAGE[torch.float32]] * 2]])
    x, mask = Power(2)(Seq(power.log(), lengths(3, 4)[:1]))
    assert mask.tolist() == [[True, True]]
    level = (4 + 4 + 12) / 3
    torch.testing.assert_close(x * level, torch.tensor([[[1.5, 2.5], [5, 7]]]))


def test_silence_around_a_voice_and_within_it_is_not_heard() -> None:
    encoder = settled(AUDIO["ge2e"](torch.zeros(12), torch.ones(12), SPEC))
    frames = torch.randn(1, 30, 12)
    pause = frames.amax() - math.log(1e8) + torch.rand(1, 9, 12)
    paused = torch.cat([pause, frames[:, :14], pause[:, :4], frames[:, 14:], pause], 1)
    spoken, whole = (encoder(Seq(x, lengths(x.shape[1]))).x for x in (frames, paused))
    torch.testing.assert_close(whole, spoken)
    quiet, _ = encoder(Seq(torch.full((1, 20, 12), -23.0), lengths(20)))  # nothing is louder
    assert quiet.isfinite().all()


def test_stretches_are_read_side_by_side_each_from_its_own_beginning() -> None:
    torch.manual_seed(0)
    windows, x = Windows(3, 4, layers=3, length=5).eval(), torch.randn(2, 12, 3)
    told, mask = windows(Seq(x, lengths(12, 7)))
    assert told.shape == (2, 15, 8)
    assert mask.sum(1).tolist() == [12, 7]
    assert not told[~mask].any()
    for row, start, end in ((0, 0, 5), (0, 5, 10), (0, 10, 12), (1, 5, 7)):
        part, after = x[row : row + 1, start:end], []
        for layer in windows.layers:
            part, _ = layer(part)
            after.append(part)
        torch.testing.assert_close(told[row : row + 1, start:end], torch.cat(after[1:], 2))


class Says(nn.Module):
    """The same of every recording."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, source: Seq[Tensor]) -> Tensor:
        return self.answer


@pytest.mark.parametrize("n", [1, 4, 9])
def test_the_whole_counts_once_in_the_linear_answer_however_long_the_recording(n: int) -> None:
    x, mask = Beside(nn.Identity(), Says(torch.tensor([[3.0, -2.0]])))(
        Seq(torch.zeros(1, n, 2), lengths(n))
    )
    torch.testing.assert_close(masked_root_sum(x, mask), torch.tensor([[3.0, -2.0]]))


def test_filters_are_of_three_sizes_and_add_to_their_input() -> None:
    ngrams, x = Ngrams(4, kernel_size=3, activation="relu", dropout=0), torch.randn(1, 3, 4)
    assert [f.convolution.kernel_size[0] for f in ngrams.filters] == [3, 4, 5]
    nn.init.zeros_(ngrams.mix.weight)
    torch.testing.assert_close(ngrams(Seq(x, lengths(3))).x, x + ngrams.mix.bias)


@pytest.mark.parametrize(("kind", "sees"), [("transformer", True), ("gru", True), ("bag", False)])
def test_who_sees_the_order_of_words(kind: str, sees: bool) -> None:
    torch.manual_seed(0)
    encoder, x = TEXT[kind](40, SPEC).eval(), ids(1, 6)
    forth, _ = encoder(Seq(x, lengths(6)))
    back, _ = encoder(Seq(x.flip(1), lengths(6)))
    assert ((forth - back.flip(1)).abs().max() > 1e-3) == sees


def test_recurrent_attention_shows_each_position_the_weighted_whole() -> None:
    torch.manual_seed(0)
    body = Recurrent(nn.GRU, 4, layers=1, dropout=0)
    nn.init.zeros_(body.score[2].weight)  # no preference: the whole is the mean
    x, mask = torch.randn(1, 3, 4), lengths(3)
    read, _ = body.layers[0](Seq(x, mask))
    whole = read.mean(1, keepdim=True).expand_as(read)
    torch.testing.assert_close(body(Seq(x, mask)).x, body.mix(torch.cat([read, whole], 2)))


def test_an_expert_is_heard_as_far_as_the_gate_takes_a_text_for_its_kind() -> None:
    """Two experts and the gate for neither; the second expert says two things. The numbers of four
    positions count half of their sum, and those of a hidden one not at all."""
    experts = Experts((0, 1, 1))
    assert Experts.reads((0, 1, 1)) == 6
    scores = torch.tensor([0.0, math.log(2), 0.0, 8.0, 4.0, -2.0])  # gates 1/4, 1/2, 1/4
    x = torch.full((1, 5, 6), math.nan)
    x[0, :4] = scores / 2
    said = experts(Seq(x, lengths(4, 5)[:1]))
    torch.testing.assert_close(said, torch.tensor([[2.0, 2.0, -1.0]]))
    x[0, :4, 2] = 50.0  # of neither kind
    assert experts(Seq(x, lengths(4, 5)[:1])).abs().max() < 1e-6


def test_what_experts_say_counts_once_however_long_the_text() -> None:
    encoder: Any = settled(TEXT["cnn-experts"](40, SPEC))
    nn.init.normal_(encoder[0].embedding.weight)
    source = Seq(ids(2, 40), lengths(40, 17))
    x, mask = encoder(source)
    said = encoder[1].says(encoder[0](source))
    assert said.abs().min() > 0
    torch.testing.assert_close(masked_root_sum(x[:, :, SPEC.out :], mask), said)
