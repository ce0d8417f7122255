"""Settings to modules: every word of the configuration builds what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from moodal import config
from moodal.errors import ConfigError
from moodal.model import build
from moodal.model.build import AUTO, REGISTRIES, Measured
from moodal.model.encoders import ASIDE
from moodal.model.fusion import FUSIONS
from moodal.model.heads import HEADS
from moodal.model.model import Network
from moodal.model.stems import Standardise, Tokens
from moodal.preprocess.batch import Kind, Settings
from moodal.types import Modality, Seq

N_PIECES, F = 30, 16
HOME: dict[Kind, Modality] = {
    "tokens": "text",
    "symbols": "text",
    "picture": "image",
    "frames": "audio",
    "vectors": "text",
}
KINDS: dict[Modality, Kind] = {"text": "tokens", "image": "picture", "audio": "frames"}
SMALL = [f"{part}.width=12" for part in ("text_encoder", "image_encoder", "audio_encoder")]
INPUTS = {
    "tokens": Seq(torch.randint(1, N_PIECES, (2, 5, 3), dtype=torch.int32), torch.ones(2, 5) > 0),
    "symbols": Seq(torch.randint(1, N_PIECES, (2, 5, 1), dtype=torch.int32), torch.ones(2, 5) > 0),
    "picture": Seq(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.ones(2, 32) > 0),
    "frames": Seq(torch.randn(2, 20, F), torch.ones(2, 20) > 0),
    "vectors": Seq(torch.randn(2, 7, F), torch.ones(2, 7) > 0),
}


def network(
    *settings: str, kinds: dict[Modality, Kind] = KINDS, vectors: Any = None, n_outputs: int = 3
) -> Network:
    torch.manual_seed(0)
    run = config.load(None, (*SMALL, "fusion.width=8", *settings))
    given = Settings(kinds, {}, run.text, run.image, run.audio)
    figures = np.linspace(-1, 1, F), np.linspace(1, 2, F)
    means, stds = ({m: f for m, k in kinds.items() if k in ("frames", "vectors")} for f in figures)
    measured = Measured(
        np.ones(N_PIECES, np.float32), vectors, means, stds, np.arange(n_outputs), 2.5
    )
    return build.network(run, given, measured)


def first(module: torch.nn.Module, kind: type[Any]) -> Any:
    return next(part for part in module.modules() if isinstance(part, kind))


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, known in REGISTRIES.items() for n in (*known, "auto")]
)
def test_every_encoder_is_built_by_its_name_and_answers(kind: Kind, name: str) -> None:
    modality = HOME[kind]
    built = network(f"{modality}_encoder.kind={name}", kinds={modality: kind}).eval()
    assert built.modalities == (modality,)
    with torch.inference_mode():
        encoded = built.encoders[modality](INPUTS[kind])
        assert encoded.x.shape[0] == 2
        assert encoded.x.shape[2] == 8 + ASIDE.get(name, 0)
        assert built({modality: INPUTS[kind]}).answer.x.shape == (2, 1, 3)


@pytest.mark.parametrize("kind", REGISTRIES)
def test_auto_is_one_of_the_names(kind: Kind) -> None:
    modality = HOME[kind]
    auto, named = (
        network(f"{modality}_encoder.kind={name}", kinds={modality: kind})
        for name in ("auto", AUTO[kind])
    )
    assert str(auto) == str(named)


@pytest.mark.parametrize(
    ("modality", "kind", "name"),
    [("text", "tokens", "mlp"), ("image", "picture", "gru"), ("audio", "frames", "bag")],
)
def test_an_encoder_that_the_input_does_not_have_is_refused_with_those_it_has(
    modality: Modality, kind: Kind, name: str
) -> None:
    known = ", ".join(REGISTRIES[kind])
    said = rf"{modality}_encoder\.kind='{name}': for {kind} use auto or one of {known}"
    with pytest.raises(ConfigError, match=said):
        network(f"{modality}_encoder.kind={name}", kinds={modality: kind})


def test_an_encoder_of_how_something_is_said_does_not_tell_what() -> None:
    with pytest.raises(ConfigError, match=r"'ge2e' hears how .* use auto, tdnn-gru"):
        network("task=transcribe", "audio_encoder.kind=ge2e", kinds={"audio": "frames"})


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("head", HEADS)
def test_every_fusion_and_head_are_built_by_their_names_and_answer(kind: str, head: str) -> None:
    built = network(f"fusion.kind={kind}", f"head.kind={head}", "head.hidden=5").eval()
    inputs = {m: INPUTS[k] for m, k in KINDS.items()}
    with torch.inference_mode():
        assert built(inputs).answer.x.shape == (2, 1, 3)


def test_the_settings_of_the_configuration_know_the_same_names() -> None:
    assert set(FUSIONS) == set(get_args(config.Fusion.model_fields["kind"].annotation))
    assert set(HEADS) == set(get_args(config.Head.model_fields["kind"].annotation))
    assert set(AUTO) == set(REGISTRIES)
    assert all(AUTO[kind] in known for kind, known in REGISTRIES.items())


def test_what_was_measured_stands_in_the_network() -> None:
    built = network(n_outputs=4)
    assert built.bias.tolist() == [0, 1, 2, 3]
    assert built.scale == 2.5
    assert built.width == 8
    assert first(built.encoders["text"], Tokens).embedding.num_embeddings == N_PIECES
    standardise = first(built.encoders["audio"], Standardise)
    assert standardise.mean.tolist() == pytest.approx(np.linspace(-1, 1, F).tolist())


def test_word_vectors_are_where_the_embedding_starts() -> None:
    vectors = np.random.default_rng(0).normal(size=(N_PIECES, 7)).astype(np.float32)
    embedding = first(network(vectors=vectors).encoders["text"], Tokens).embedding
    assert embedding.embedding_dim == 7
    assert np.array_equal(embedding.weight.detach().numpy()[1:], vectors[1:])


def test_an_encoder_begins_with_weights_that_were_trained_elsewhere(tmp_path: Path) -> None:
    bias = torch.arange(8.0)
    save_file({"3.linear.bias": bias}, tmp_path / "some.safetensors")
    begun = network(f"image_encoder.weights={tmp_path / 'some.safetensors'}").encoders["image"]
    torch.testing.assert_close(begun.state_dict()["3.linear.bias"], bias)
    drawn = network().encoders["image"].state_dict()["3.linear.weight"]
    torch.testing.assert_close(begun.state_dict()["3.linear.weight"], drawn)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "holds no tensor"),
        ({"9.linear.bias": torch.zeros(8)}, "9.linear.bias, which this encoder does not have"),
        ({"3.linear.bias": torch.zeros(5)}, r"3.linear.bias is \[5\], in this encoder \[8\]"),
        (None, "give a safetensors file"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_file_and_name(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | None, said: str
) -> None:
    file = tmp_path / "some.safetensors"
    if tensors is None:
        file.write_bytes(b"no tensors")
    else:
        save_file(tensors, file)
    with pytest.raises(ConfigError, match=rf"image_encoder\.weights=.*some\.safetensors: .*{said}"):
        network(f"image_encoder.weights={file}")


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.safetensors"):
        network(f"image_encoder.weights={tmp_path / 'absent.safetensors'}")


def test_each_encoder_has_settings_of_its_own() -> None:
    built = network("text_encoder.width=24", "audio_encoder.kind=gru", "image_encoder.layers=1")
    assert first(built.encoders["text"], Tokens).embedding.embedding_dim == 24
    assert [type(m).__name__ for m in built.encoders["audio"].modules()].count("GRU") > 0
    assert [type(m).__name__ for m in built.encoders["text"].modules()].count("GRU") == 0


def test_modalities_are_in_one_order_whatever_the_settings_say() -> None:
    turned: dict[Modality, Kind] = {"audio": "frames", "text": "tokens"}
    assert network(kinds=turned).modalities == ("text", "audio")


def test_the_same_seed_draws_the_same_weights() -> None:
    one, two = network().state_dict(), network().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
