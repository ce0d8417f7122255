"""The one predict: alone or in company the same answer, and one bad record fails alone."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import LABELS, picture, png, tone, train_once, wav

from moodal.data import manifest
from moodal.errors import ModelError, RecordError
from moodal.runtime.predict import Model
from moodal.types import Prediction, Record, Rejection

RNG = np.random.default_rng(5)
PICTURE, SOUND = png(picture("good", RNG)), wav(tone("bad", RNG))
TEXT = "the room was lovely 真的很精彩 on day 3"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(train_once())


@pytest.fixture(scope="module")
def records() -> list[Record]:
    found = list(manifest.read(train_once().parent / "data" / "dev.csv"))
    assert not [r for r in found if isinstance(r, Rejection)]
    return [r for r in found if isinstance(r, Record)]


def same(
    one: Prediction | Rejection, other: Prediction | Rejection, tolerance: float = 1e-5
) -> bool:
    assert isinstance(one, Prediction)
    assert isinstance(other, Prediction)
    assert (one.label, one.modalities, one.abstain) == (
        other.label,
        other.modalities,
        other.abstain,
    )
    assert one.probabilities == pytest.approx(other.probabilities, abs=tolerance)
    assert one.contributions == pytest.approx(other.contributions, abs=tolerance)
    return True


def test_what_a_prediction_promises(model: Model) -> None:
    answer = model.predict(text=TEXT, image=PICTURE, audio=SOUND, explain=True)
    assert tuple(answer.probabilities) == LABELS
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert answer.confidence == max(answer.probabilities.values())
    assert answer.label is not None
    assert answer.probabilities[answer.label] == answer.confidence
    assert answer.value is None
    assert answer.modalities == ("text", "image", "audio")
    assert answer.abstain == (answer.confidence < model.info.threshold)


@pytest.mark.parametrize("seen", ["text", "image", "audio", "text image", "image audio", "all"])
def test_contributions_add_up_to_the_probability_less_the_prior(model: Model, seen: str) -> None:
    whole = {"text": TEXT, "image": PICTURE, "audio": SOUND}
    given = whole if seen == "all" else {m: whole[m] for m in seen.split()}
    (answer,) = model.predict_many([given])
    assert isinstance(answer, Prediction)
    assert answer.modalities == tuple(given)
    assert tuple(answer.contributions) == tuple(given)
    prior = model.info.prior[LABELS.index(str(answer.label))]
    assert sum(answer.contributions.values()) == pytest.approx(answer.confidence - prior, abs=1e-9)


def test_a_hidden_modality_is_an_absent_one(model: Model) -> None:
    whole = {"text": TEXT, "image": PICTURE, "audio": SOUND}
    (outputs,) = model.outputs([whole])
    assert not isinstance(outputs, Rejection)
    assert len(outputs.scores) == 7
    for subset, scores in outputs.scores.items():
        (alone,) = model.predict_many([{m: whole[m] for m in subset}])
        assert isinstance(alone, Prediction)
        assert scores == pytest.approx(list(alone.probabilities.values()), abs=1e-5)


def test_a_record_among_others_is_answered_as_if_alone(model: Model, records: list[Record]) -> None:
    alone = [next(model.predict_many([record])) for record in records]
    for size in (5, len(records)):
        together = list(model.predict_many(records, batch_size=size))
        assert [a.id for a in together] == [r.id for r in records]
        assert all(map(same, together, alone))


def test_predict_is_predict_many(model: Model, records: list[Record]) -> None:
    for record in records[:6]:
        one = model.predict(text=record.text, image=record.image, audio=record.audio)
        assert same(one, next(model.predict_many([record])))


def test_bytes_and_paths_are_the_same(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "图片.png"
    path.write_bytes(PICTURE)
    from_bytes = model.predict(image=PICTURE)
    assert same(model.predict(image=path), from_bytes)
    assert same(model.predict(image=str(path)), from_bytes)


def test_a_bad_record_fails_alone_and_in_its_place(model: Model, records: list[Record]) -> None:
    bad = {
        1: Record("gone", image=Path("nowhere.png"), source="x.csv row 2"),
        4: Record("cut", image=PICTURE[:40], text="fine", source="x.csv row 5"),
        6: Record("nothing", source="x.csv row 7"),
        7: Rejection("before", "x.csv row 8", "text", "was bad already"),
    }
    good = records[:4]
    mixed = [bad.get(place) or good.pop() for place in range(8)]
    answers = list(model.predict_many(mixed, batch_size=5))
    assert [a.id for a in answers] == [m.id for m in mixed]
    for place, (given, answer) in enumerate(zip(mixed, answers, strict=True)):
        if place not in bad:
            assert isinstance(given, Record)
            assert same(answer, next(model.predict_many([given])))
    cut = answers[4]
    assert isinstance(cut, Rejection)
    assert (cut.source, cut.field) == ("x.csv row 5", "image")
    assert answers[7] is bad[7]


def test_a_batch_of_bad_records_alone_is_answered_too(model: Model) -> None:
    answers = list(model.predict_many([{"image": b"no"}, {"audio": b"no"}]))
    assert [a.field for a in answers if isinstance(a, Rejection)] == ["image", "audio"]


def test_no_records_no_answers(model: Model) -> None:
    assert list(model.predict_many([])) == []


def test_answers_stream(model: Model) -> None:
    def endless() -> object:
        while True:
            yield {"text": "great"}

    answers = model.predict_many(endless(), batch_size=2)  # type: ignore[arg-type]
    assert isinstance(next(answers), Prediction)


@pytest.mark.parametrize("nothing", [None, "", "  ", math.nan])
def test_an_empty_cell_is_an_absent_modality(model: Model, nothing: object) -> None:
    absent = {"text": nothing, "image": nothing, "audio": SOUND}
    (answer,) = model.predict_many([absent])
    assert isinstance(answer, Prediction)
    assert same(answer, model.predict(audio=SOUND))


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({}, "", "no modality; this model reads text, image, audio"),
        ({"text": 5}, "text", "holds int; give a string"),
        ({"text": b"good"}, "text", "holds bytes; give a string"),
        ({"text": Path("good.txt")}, "text", "give a string"),
        ({"image": 2.5}, "image", "holds float; give a path, the bytes of a file"),
        ({"audio": {"path": "x.wav"}}, "audio", "holds dict; give a path"),
        ({"text": [0.5, 0.25]}, "text", "this model reads tokens"),
        ({"audio": np.zeros(16_000, np.float32)}, "audio", "this model reads frames"),
        ({"image": [1.0, math.nan]}, "image", "at position [1]; features must be finite"),
        ({"image": np.zeros((4, 4), np.float64)}, "image", "this model reads picture"),
        ({"image": np.zeros((2, 2, 2, 3), np.uint8)}, "image", "is no picture"),
        ({"txt": "good"}, "txt", "a record may have id, text, image, audio"),
    ],
)
def test_what_is_no_record_is_rejected_and_says_why(
    model: Model, given: dict[str, object], field: str, said: str
) -> None:
    bad, good = model.predict_many([{"id": "seven", **given}, {"text": "great"}])
    assert isinstance(bad, Rejection)
    assert isinstance(good, Prediction)
    assert (bad.id, bad.source, bad.field) == ("seven", "record 0", field)
    assert said in bad.reason


def test_predict_raises_what_predict_many_rejects(model: Model) -> None:
    with pytest.raises(RecordError, match=r"image: nowhere\.jpg: No such file.*correct the path"):
        model.predict(text="good", image="nowhere.jpg")
    with pytest.raises(RecordError, match="no modality; this model reads text, image, audio"):
        model.predict()


def test_a_picture_may_be_pixels(model: Model) -> None:
    pixels = picture("fair", np.random.default_rng(1))
    assert same(model.predict(image=pixels), model.predict(image=png(pixels)))


# ---- words -------------------------------------------------------------------------------------


def test_words_stand_in_reading_order(model: Model) -> None:
    answer = model.predict(text="The film was not 精彩!", explain=True)
    assert [word for word, _ in answer.words] == ["the", "film", "was", "not", "精彩", "!"]
    assert model.predict(text="The film").words == ()


def test_a_word_weighs_what_the_answer_loses_when_its_position_is_masked(model: Model) -> None:
    # These words are in no known run of words, so hiding one is leaving its position out.
    answer = model.predict(text="zzz 糟糕", explain=True)
    alone = model.predict(text="zzz")
    assert answer.label is not None
    assert answer.words[1] == (
        "糟糕",
        pytest.approx(answer.confidence - alone.probabilities[answer.label], abs=1e-6),
    )


def test_one_word_weighs_the_answer_less_the_prior(model: Model) -> None:
    answer = model.predict(text="lovely", explain=True)
    prior = model.info.prior[LABELS.index(str(answer.label))]
    assert answer.words == (("lovely", pytest.approx(answer.confidence - prior)),)


def test_one_word_with_a_picture_leaves_what_the_picture_says(model: Model) -> None:
    answer = model.predict(text="lovely", image=PICTURE, explain=True)
    assert answer.label is not None
    picture_alone = model.predict(image=PICTURE).probabilities[answer.label]
    expected = pytest.approx(answer.confidence - picture_alone, abs=1e-6)
    assert answer.words == (("lovely", expected),)


def test_words_beside_a_picture_are_weighed_with_the_picture_seen(model: Model) -> None:
    answer = model.predict(text="zzz 糟糕", image=PICTURE, explain=True)
    alone = model.predict(text="zzz", image=PICTURE)
    assert answer.label is not None
    weight = answer.confidence - alone.probabilities[answer.label]
    assert dict(answer.words)["糟糕"] == pytest.approx(weight, abs=1e-6)


def test_a_long_text_is_explained_as_far_as_it_is_read(model: Model) -> None:
    answer = model.predict(text="good " * 500, explain=True)
    assert len(answer.words) == model.info.text.max_tokens


def test_without_text_there_are_no_words(model: Model) -> None:
    assert model.predict(image=PICTURE, explain=True).words == ()


# ---- what is absent is not computed ------------------------------------------------------------


def test_a_graph_that_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(train_once(), tmp_path / "model")
    (folder / "text.onnx").unlink()
    model = Model(folder)
    assert same(model.predict(image=PICTURE), Model(train_once()).predict(image=PICTURE))
    with pytest.raises(ModelError, match=r"text\.onnx: cannot be read.*copy the model again"):
        model.predict(text="good", image=PICTURE)
    with pytest.raises(ModelError, match=r"text\.onnx"):
        model.warm()


def test_warm_reads_every_graph(tmp_path: Path) -> None:
    folder = shutil.copytree(train_once(), tmp_path / "model")
    model = Model(folder)
    model.warm()
    shutil.rmtree(folder)
    assert model.predict(text="good", image=PICTURE, audio=SOUND).modalities


def test_more_threads_answer_the_same() -> None:
    given = {"text": TEXT, "image": PICTURE, "audio": SOUND}
    (one,), (two,) = (Model(train_once(), threads=n).predict_many([given]) for n in (1, 2))
    assert same(one, two)


def test_most_words_unknown_is_said_and_not_guessed() -> None:
    model = Model(train_once())
    model.info = model.info.model_copy(update={"familiar": 0.4})
    strange = model.predict(text="Ужасный сервис никогда больше")
    assert (strange.abstain, strange.reason) == (True, "unfamiliar")
    assert model.predict(text="the room was lovely").reason != "unfamiliar"


def test_a_text_that_says_nothing_gets_the_frequencies_and_no_guess(model: Model) -> None:
    for blank in ("", " \n\t"):
        answer = model.predict(text=blank, explain=True)
        assert (answer.abstain, answer.reason, answer.modalities) == (True, "empty", ())
        assert list(answer.probabilities.values()) == pytest.approx(list(model.info.prior))
        assert (dict(answer.contributions), answer.words) == ({}, ())
    beside = model.predict(text="", image=np.zeros((8, 8, 3), np.uint8))
    assert beside.modalities == ("image",)
    assert beside.reason != "empty"
