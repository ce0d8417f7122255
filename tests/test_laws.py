"""The eight laws of the architecture, each through a model that was trained, saved and loaded."""

from __future__ import annotations

import ast
import csv
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import moodal
from moodal import api, bundle, config, text_metrics
from moodal.data import manifest
from moodal.model import build
from moodal.model.build import Measured
from moodal.preprocess import batch
from moodal.preprocess.symbols import Symbols
from moodal.preprocess.vocabulary import parse
from moodal.runtime.predict import Model, Outputs
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS
from moodal.training import examples, objectives
from moodal.training.examples import Codec, Decoder
from moodal.training.loader import Loader
from moodal.types import MODALITIES, Prediction, Record, Rejection, Seq, Subset

SOURCE = Path(moodal.__file__).parent
SUBSETS = batch.subsets(MODALITIES)


@pytest.fixture(scope="module")
def model() -> Model:
    return api.load(tiny.train_once())


@pytest.fixture(scope="module")
def dev(model: Model) -> Path:
    return model.folder.parent / "data" / "dev.csv"


def media(label: str = "good", seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "text": tiny.sentence(label, rng)[0],
        "image": tiny.png(tiny.picture(label, rng)),
        "audio": tiny.wav(tiny.tone(label, rng, seconds=rng.uniform(0.05, 0.6))),
    }


def mixed() -> list[Record]:
    """Every subset, of several labels and lengths."""
    records = []
    for i in range(2 * len(SUBSETS)):
        given = media(tiny.LABELS[i % 3], i)
        shown: dict[str, Any] = {m: given[m] for m in SUBSETS[i % len(SUBSETS)]}
        records.append(Record(str(i), **shown))
    return records


def raw(outputs: Any) -> dict[Subset, np.ndarray[Any, Any]]:
    assert isinstance(outputs, Outputs)
    return dict(outputs.raw)


def assert_close(left: Any, right: Any, tolerance: float) -> None:
    assert left.keys() == right.keys()
    for subset in left:
        np.testing.assert_allclose(left[subset], right[subset], atol=tolerance, rtol=0)


# 1. Any non-empty subset of modalities in, an answer out. What hides under a False mask cannot
#    change the answer.


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_any_subset_of_modalities_is_answered(model: Model, subset: Subset) -> None:
    given = media()
    answer = model.predict(**{m: given[m] for m in subset})
    assert answer.label in tiny.LABELS
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.modalities == subset
    assert set(answer.contributions) == set(subset)
    full, nothing = answer.confidence, model.info.prior[tiny.LABELS.index(answer.label)]
    assert sum(answer.contributions.values()) == pytest.approx(full - nothing, abs=1e-6)


def test_what_hides_under_a_false_mask_cannot_change_an_encoding_or_an_answer(
    model: Model,
) -> None:
    sessions = Sessions(model.folder, model.info)
    inputs = batch.build(model.info.settings, vocabulary(model))
    garbage = {"text": 400, "image": 255, "audio": 1e6}
    encoded, hidden = {}, {}
    for modality in MODALITIES:
        rows = [batch.arrays(r, inputs).get(modality) for r in mixed()]
        short = min((a for a in rows if a is not None), key=len)
        if modality != "image":
            short = short[: max(1, len(short) // 2)]
        long = max((a for a in rows if a is not None), key=len)
        x, mask = batch.pad([short, long])
        clean = sessions.encode(modality, Seq(x, mask))
        dirty_x = x.copy()
        dirty_x[~mask] = garbage[modality]
        dirty = sessions.encode(modality, Seq(dirty_x, mask))
        assert np.array_equal(clean.mask, dirty.mask)
        np.testing.assert_allclose(clean.x[clean.mask], dirty.x[clean.mask], atol=1e-5, rtol=0)
        encoded[modality] = clean
        hidden[modality] = Seq(
            np.where(clean.mask[..., None], clean.x, 1e6).astype("f4"), clean.mask
        )
    np.testing.assert_allclose(sessions.answer(encoded), sessions.answer(hidden), atol=1e-5, rtol=0)


# 2. A missing modality is data: never another row's value, never a zero that means something.


def test_a_missing_modality_is_not_a_modality_of_zeros(model: Model) -> None:
    given = media()
    silent: dict[str, Any] = {
        "image": tiny.png(np.zeros((24, 24, 3), np.uint8)),
        "audio": tiny.wav(np.zeros(4800, np.float32)),
    }
    absent = next(model.outputs([Record("1", text=given["text"])]))
    black = next(model.outputs([Record("1", text=given["text"], **silent)]))
    np.testing.assert_allclose(raw(absent)["text",], raw(black)["text",], atol=1e-5)
    assert np.abs(raw(absent)["text",] - raw(black)[MODALITIES]).max() > 1e-3


def test_the_row_above_lends_nothing_to_a_row_that_lacks_a_modality(model: Model) -> None:
    lacking = Record("1", text=media()["text"])
    alone = next(model.outputs([lacking]))
    for seed in range(3):
        rich = Record("0", **media("bad", seed))
        after = list(model.outputs([rich, lacking, rich]))[1]
        assert raw(after).keys() == {("text",)}
        assert_close(raw(after), raw(alone), 1e-5)


# 3. One preprocessing, one decoding: training's path and the bundle's give the same numbers.


def vocabulary(model: Model) -> Any:
    return parse(bundle.read(model.folder, model.info, bundle.VOCABULARY), model.info.text)


def test_training_and_the_bundle_say_the_same_of_the_same_rows(
    model: Model, dev: Path, tmp_path: Path
) -> None:
    info = model.info
    inputs = batch.build(info.settings, vocabulary(model))
    decoder = Decoder(inputs, info.settings, tmp_path)
    read = examples.build(
        manifest.read(dev),
        codec=Codec(TASKS[info.task], info.labels),
        decoder=decoder,
        name="dev",
        training=False,
    )
    decoder.close()
    to: dict[str, Any] = {"task": TASKS[info.task], "weights": np.ones(len(info.labels))}
    loader = Loader(read, inputs, batch_size=7, seed=0, **to, training=False)
    network = _network(model)
    expected = np.zeros((len(read), len(info.labels)))
    with torch.inference_mode():
        for rows, made in zip(loader.rows(0), loader.batches(0), strict=True):
            expected[rows] = network(made.inputs).answer.x[:, 0].numpy()
    answers = [list(raw(o).values())[-1] for o in model.outputs(manifest.read(dev))]
    np.testing.assert_allclose(np.stack(answers), expected, atol=1e-4, rtol=0)


def _network(model: Model) -> torch.nn.Module:
    """The network as further training would build it: from config.yaml and weights.safetensors."""
    info, run = model.info, config.load(model.folder / bundle.CONFIG)
    weights = load_file(model.folder / bundle.WEIGHTS)
    (width,) = weights["encoders.audio.0.mean"].shape
    n_pieces = len(weights["encoders.text.0.embedding.weight"])
    bare = np.zeros(width), np.ones(width)
    bias, scale = TASKS[info.task].start(np.arange(3.0), len(info.labels))
    pieces = np.ones(n_pieces, np.float32)
    measured = Measured(pieces, None, {"audio": bare[0]}, {"audio": bare[1]}, bias, scale)
    network = build.network(run, info.settings, measured)
    network.load_state_dict(weights)
    return network.eval()


# The same laws where the answer is a text.


@pytest.fixture(scope="module", params=[tiny.hear_once, tiny.write_once], ids=["heard", "written"])
def teller(request: Any) -> Model:
    return api.load(request.param())


def told(model: Model) -> list[Record]:
    """Records of several lengths, in no order of them."""
    rng = np.random.default_rng(0)
    if model.info.modalities == ("audio",):
        texts = [tiny.utterance(rng) for _ in range(9)]
        return [Record(t, audio=tiny.wav(tiny.spoken(t, rng))) for t in texts]
    texts = [tiny.article(rng)[0] for _ in range(9)]
    return [Record(str(i), text=" ".join([t] * (1 + i % 2))) for i, t in enumerate(texts)]


def assert_said_alike(left: Any, right: Any) -> None:
    assert isinstance(left, Prediction)
    assert isinstance(right, Prediction)
    assert left.text == right.text
    assert [t.text for t in left.tokens] == [t.text for t in right.tokens]
    for mine, its in zip(left.tokens, right.tokens, strict=True):
        assert mine.confidence == pytest.approx(its.confidence, abs=1e-4)
        assert (mine.start, mine.end) == (its.start, its.end)


@pytest.mark.parametrize("batch_size", [2, 32])
def test_a_batch_tells_each_record_as_if_it_were_alone(teller: Model, batch_size: int) -> None:
    records = told(teller)
    bad: list[Any] = [Record("b1", audio=b"torn"), {"id": "b2", "text": 5}]
    together = list(teller.predict_many([records[0], *bad, *records[1:]], batch_size=batch_size))
    assert [isinstance(a, Rejection) for a in together[:4]] == [False, True, True, False]
    answers = [a for a in together if isinstance(a, Prediction)]
    assert len({a.text for a in answers}) > 3
    for record, answer in zip(records, answers, strict=True):
        assert_said_alike(answer, next(teller.predict_many([record])))


def test_what_hides_under_a_false_mask_cannot_change_a_text(teller: Model) -> None:
    (modality,) = teller.info.modalities
    sessions = Sessions(teller.folder, teller.info)
    inputs = batch.build(teller.info.settings, bundle.lexicon(teller.folder, teller.info))
    rows = sorted((batch.arrays(r, inputs)[modality] for r in told(teller)), key=len)
    x, mask = batch.pad([rows[0], rows[-1]])
    dirty_x = x.copy()
    dirty_x[~mask] = 9
    clean, dirty = (sessions.encode(modality, Seq(given, mask)) for given in (x, dirty_x))
    np.testing.assert_allclose(clean.x[clean.mask], dirty.x[clean.mask], atol=1e-5, rtol=0)
    hidden = Seq(np.where(clean.mask[..., None], clean.x, 1e4).astype("f4"), clean.mask)
    if modality == "audio":
        frames, other = sessions.frames(clean), sessions.frames(hidden)
        np.testing.assert_allclose(frames.x[frames.mask], other.x[frames.mask], atol=1e-5)
        return
    codes = np.where(clean.mask, x[..., 0], 0).astype(np.int64)
    for one, two in zip(
        sessions.remember(codes, {"text": clean}),
        sessions.remember(codes, {"text": hidden}),
        strict=True,
    ):
        there = clean.mask if one.shape[:2] == clean.mask.shape else slice(None)
        np.testing.assert_allclose(one[there], two[there], atol=1e-5)


def test_training_and_the_bundle_say_the_same_texts(
    teller: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy: training searches no further, since it only compares one epoch with another."""
    info = teller.info
    greedy = info.model_copy(update={"decode": info.decode.model_copy(update={"beam": 1})})
    monkeypatch.setattr(bundle, "load", lambda folder: greedy)
    dev, lexicon = teller.folder.parent / "data" / "dev.csv", bundle.lexicon(teller.folder, info)
    inputs = batch.build(info.settings, lexicon)
    decoder = Decoder(inputs, info.settings, tmp_path)
    symbols = lexicon if isinstance(lexicon, Symbols) else None
    codec = Codec(TASKS[info.task], info.labels, symbols)
    read = examples.build(
        manifest.read(dev), codec=codec, decoder=decoder, name="dev", training=False
    )
    decoder.close()
    to: dict[str, Any] = {"task": codec.task, "weights": np.ones(len(info.labels))}
    loader = Loader(read, inputs, batch_size=5, seed=0, **to, training=False)
    network: Any = _text_network(teller)
    expected: dict[int, str] = {}
    with torch.inference_mode():
        for rows, made in zip(loader.rows(0), loader.batches(0), strict=True):
            said = objectives.SAYS[codec.task.head](network, made, codec, greedy.decode)
            expected |= zip(rows.tolist(), (s.text for s in said), strict=True)
    answers = list(Model(teller.folder).predict_many(manifest.read(dev)))
    assert len({expected[row] for row in expected}) > 3
    assert [a.text for a in answers if isinstance(a, Prediction)] == [
        expected[row] for row in range(len(expected))
    ]


def _text_network(model: Model) -> torch.nn.Module:
    info, run = model.info, config.load(model.folder / bundle.CONFIG)
    weights = load_file(model.folder / bundle.WEIGHTS)
    bare = {"audio": np.zeros(run.audio.n_mels)}
    n = len(info.labels)
    measured = Measured(np.ones(n), None, bare, bare, np.zeros(n), 1.0)
    network = build.network(run, info.settings, measured)
    network.load_state_dict(weights)
    return network.eval()


def test_what_is_longer_than_is_read_at_once_is_told_to_its_end(teller: Model) -> None:
    """In windows that overlap: nothing is cut, nothing said twice, and times go on."""
    rng = np.random.default_rng(1)
    if teller.info.modalities == ("audio",):
        words = ["abc", "ca", "b", "bca", "ab"] * 5
        sound = tiny.spoken(" ".join(words), rng)
        seconds = len(sound) / 16_000
        assert seconds > 3 * teller.info.audio.max_seconds
        answer = teller.predict(audio=tiny.wav(sound))
        assert answer.text is not None
        assert cer(" ".join(words), answer.text) < 0.05
        starts = [t.start or 0.0 for t in answer.tokens]
        assert starts == sorted(starts)
        assert seconds - 1 < (answer.tokens[-1].end or 0) < seconds + 0.1
        return
    short = "today , dora went out and bought fish there ."
    before = "in the town , anna went out . " * 12
    assert len(before.split()) > 2 * teller.info.text.max_tokens
    for text in (before + short, short + " " + before):
        assert "fish" in (teller.predict(text=text).text or ""), "wherever it stands"


def cer(target: str, text: str) -> float:
    row = text_metrics.transcript_row(target, text, 1.0)
    named = dict(zip(text_metrics.TRANSCRIPT, row, strict=True))
    return float(named["character_errors"] / named["characters"])


def test_windows_encode_what_one_reading_of_it_all_would(teller: Model) -> None:
    """Symbols here look less far than what of a window is read and not kept; sounds also know the
    mean of all that is read, so a window's are alike and not the same."""
    (modality,) = teller.info.modalities
    rng = np.random.default_rng(2)
    inputs = batch.build(teller.info.settings, bundle.lexicon(teller.folder, teller.info))
    if modality == "audio":
        record = Record("1", audio=tiny.wav(tiny.spoken("abc ab " * 9 + "c", rng)))
    else:
        record = Record("1", text=" ".join(tiny.article(rng)[0] for _ in range(12)))
    array = batch.arrays(record, inputs)[modality]
    window = teller.info.settings.windows[modality]
    assert len(array) > 2 * window
    whole = Sessions(teller.folder, teller.info).encode(modality, batch.pad([array]))
    found = teller._encode_rows(modality, [array, array[: window // 2]])
    assert found.mask[0].all()
    assert found.x[0].shape == whole.x[0].shape
    if modality == "text":
        np.testing.assert_allclose(found.x[0], whole.x[0], atol=1e-4)
    likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.x[0], whole.x[0], strict=True)]
    assert np.mean(likeness) > 0.98
    assert np.corrcoef(found.x[0][1:].ravel(), whole.x[0][:-1].ravel())[0, 1] < 0.9, "in its place"


# 4. Run-time world without torch; no work at import.


EVERYTHING = """
import json, pkgutil, sys
from importlib import import_module
import moodal
for module in pkgutil.walk_packages(moodal.__path__, "moodal."):
    if module.name.split(".")[1] not in ("training", "model", "export", "compress", "tuning"):
        import_module(module.name)
for name in moodal.__all__:
    getattr(moodal, name)
print(json.dumps(sorted(sys.modules)))
"""
TRAINING_WORLD = ("torch", "accelerate", "safetensors", "onnx")


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def test_no_torch_in_the_run_time_world() -> None:
    loaded = modules_after(EVERYTHING)
    expected = {
        "cli",
        "api",
        "runtime.predict",
        "evaluation.score",
        "data.check",
        "preprocess.batch",
    }
    assert {f"moodal.{name}" for name in expected} <= loaded
    assert not {name for name in loaded if name.split(".")[0] in TRAINING_WORLD}
    assert not {
        n for n in loaded if n.startswith(("moodal.training.", "moodal.model.", "moodal.export."))
    }


def test_importing_moodal_imports_no_third_party_module_at_all() -> None:
    empty = modules_after("import json, sys; print(json.dumps(sorted(sys.modules)))")
    loaded = modules_after("import json, sys, moodal; print(json.dumps(sorted(sys.modules)))")
    foreign = {name.split(".")[0] for name in loaded - empty} - set(sys.stdlib_module_names)
    assert foreign == {"moodal"}


def test_a_prediction_needs_no_torch_and_no_network(model: Model) -> None:
    code = f"""
import json, socket, sys
def refuse(*_): raise AssertionError("a prediction opened a connection")
socket.socket.connect = refuse
import moodal
moodal.load({str(model.folder)!r}).predict(text="a lovely day")
print(json.dumps(sorted(sys.modules)))
"""
    assert not {name for name in modules_after(code) if name.split(".")[0] in TRAINING_WORLD}


# 5. Same manifest + config + seed -> same numbers: see tests/training/test_run.py; and at run time:


def test_two_loads_of_one_model_say_the_same_to_the_last_bit(model: Model, dev: Path) -> None:
    twice = [list(api.load(model.folder).predict_many(manifest.read(dev))) for _ in range(2)]
    assert twice[0] == twice[1]


# 6. One bad row never stops a run and is never silent.


def test_a_bad_row_is_counted_named_and_stops_nothing(
    model: Model, dev: Path, tmp_path: Path
) -> None:
    with dev.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {m: str(dev.parent / row[m]) for m in ("image", "audio") if row[m]}
    bad = rows[3] | {"id": "bad", "image": str(dev.parent / "gone.png")}
    path = tiny.write(tmp_path / "dev.csv", [*rows[:5], bad, *rows[5:]])
    answers = list(model.predict_many(manifest.read(path)))
    assert [isinstance(a, Rejection) for a in answers].index(True) == 5
    (rejection,) = [a for a in answers if isinstance(a, Rejection)]
    assert (rejection.id, rejection.field, rejection.source) == ("bad", "image", "dev.csv row 6")
    assert "gone.png" in rejection.reason
    report = api.evaluate(path, model=model).to_dict()
    assert report["n"] == len(rows)
    assert report["rejected"]["n"] == 1
    assert report["rejected"]["rows"][0]["id"] == "bad"


# 7. A batch answers each record as if it were alone, and one bad record fails alone.


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_batch_answers_each_record_as_if_it_were_alone(model: Model, batch_size: int) -> None:
    records = mixed()
    together = list(model.outputs(records, batch_size=batch_size))
    for record, outputs in zip(records, together, strict=True):
        assert_close(raw(outputs), raw(next(model.outputs([record]))), 1e-5)


def test_one_bad_record_fails_alone(model: Model) -> None:
    good = mixed()
    bad: list[Any] = [
        Record("b1", image=b"torn", text="fine"),
        {"id": "b2", "text": 5},
        {"id": "b3", "txt": "fine"},
        Record("b4"),
        Record("b5", audio=np.ones(3, np.float32)),
    ]
    shuffled: list[Any] = [item for pair in zip(good, bad, strict=False) for item in pair]
    shuffled += good[len(bad) :]
    answers = list(model.predict_many(shuffled))
    assert [a.id for a in answers] == [
        item["id"] if isinstance(item, dict) else item.id for item in shuffled
    ]
    assert {a.id for a in answers if isinstance(a, Rejection)} == {"b1", "b2", "b3", "b4", "b5"}
    alone = {a.id: a for a in model.predict_many(good) if isinstance(a, Prediction)}
    for answer in answers:
        if isinstance(answer, Prediction):
            close = pytest.approx(alone[answer.id].probabilities, abs=1e-5)
            assert answer.probabilities == close


# 8. Memory does not grow with the number of rows.


def test_answers_stream_from_a_source_without_end(model: Model) -> None:
    asked = 0

    def endless() -> Iterator[Record]:
        nonlocal asked
        while True:
            asked += 1
            yield Record(str(asked), text="a lovely day")

    answers = model.predict_many(endless(), batch_size=4)
    assert [next(answers).id for _ in range(6)] == ["1", "2", "3", "4", "5", "6"]
    assert asked == 8


def test_reading_a_manifest_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for n in (3_000, 30_000):
        path = tmp_path / f"{n}.csv"
        path.write_text("text,label\n" + f"{'a lovely day ' * 10},good\n" * n, encoding="utf-8")
        tracemalloc.start()
        try:
            assert sum(1 for _ in manifest.read(path)) == n
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000, f"bytes: {peaks}"


# And the nouns: variation is a value, so no file but the two tables asks for a task by its name.


TABLES = {"types.py", "tasks.py", "training/objectives.py"}


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string constant that is not a docstring (or the description under a field)."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def test_no_task_is_named_outside_the_task_tables() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).as_posix() not in TABLES
        for line, text in strings(ast.parse(path.read_text(encoding="utf-8")))
        if text in TASKS  # a sentence to people may say one; only a name can be compared with
    ]
    assert found == []
