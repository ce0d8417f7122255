"""`make bench`: what it costs, one table. Figures are medians; targets stand beside them.

The model is trained here, on a toy set, with about 4 M parameters: its speed is that of any model
of that size. One thread throughout, but for the row on training.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import preprocess
import soundfile
from PIL import Image

from moodal import api

PYTHON = sys.executable
MODEL = (
    "train.epochs=1",
    "text.min_count=1",
    "text.char_ngrams=6",
    "text.word_ngrams=4",
)


SYMBOLS = 30
"""Of the summaries that are timed."""


def show(what: str, figure: str, target: str = "") -> None:
    print(f"{what:<62}{figure:>16}  {target}", flush=True)


def process(*command: str, times: int = 5) -> tuple[float, float]:
    """Median seconds and largest memory (MB) of a whole process, after one to warm up."""
    seconds, peak = [], 0.0
    for run in range(times + 1):
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None:
            peak = max(peak, high_water_mb(child.pid))
            time.sleep(0.01)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
        if run:
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)), peak


def high_water_mb(pid: int) -> float:
    """Not what wait4 says: that counts the parent's memory at the fork."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def p50_ms(work: object, times: int = 200) -> float:
    assert callable(work)
    for _ in range(10):
        work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def start_up() -> None:
    bare, _ = process(PYTHON, "-c", "pass")
    package, _ = process(PYTHON, "-c", "import moodal")
    torch, _ = process(PYTHON, "-c", "import torch", times=3)
    moodal = str(Path(PYTHON).with_name("moodal"))
    text, peak = process(moodal, "predict", "--text", "not bad at all")
    show("import moodal (less an empty process)", f"{package - bare:.3f} s", "at most 0.1 s")
    show("moodal predict --text, whole process", f"{text:.2f} s, {peak:.0f} MB", "")
    show("  the same / python -c 'import torch'", f"{text / torch:.2f}", "at most 0.50")


def latency(folder: Path) -> None:
    """Of the model that comes with the package."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(picture).resize((192, 192), Image.Resampling.BICUBIC).save(folder / "p.jpg")
    soundfile.write(folder / "s.wav", preprocess._speech_like(), 16_000)
    model = api.load()
    text = "The room was clean and the staff were friendly, but breakfast was not worth the price."
    both = {"image": folder / "p.jpg", "audio": folder / "s.wav"}
    show("parameters of the model below", f"{model.info.parameters / 1e6:.1f} M", "4 M")
    show(
        "text + 192 px JPEG + 3 s of speech, decoding included, p50",
        f"{p50_ms(lambda: model.predict(text=text, **both)):.2f} ms",
        "at most 12 ms",
    )
    show("text alone, p50", f"{p50_ms(lambda: model.predict(text=text)):.2f} ms", "at most 2 ms")
    code = (
        "import sys; from moodal import api; m = api.load();"
        "[m.predict(text='good', image=sys.argv[1], audio=sys.argv[2]) for _ in range(50)]"
    )
    files = (str(folder / "p.jpg"), str(folder / "s.wav"))
    _, peak = process(PYTHON, "-c", code, *files, times=1)
    show("memory of a process that predicts all three", f"{peak:.0f} MB", "at most 300 MB")


def frames() -> None:
    for row in preprocess.rows():
        target = f"at most {row['target_ms']} ms" if row["target_ms"] is not None else ""
        show(str(row["what"]), f"{row['ms']:.3f} ms", target)


def training(data: Path, out: Path, threads: int) -> None:
    """The cache is warm: `data` was trained on before."""
    settings = [*MODEL, "train.epochs=2", f"train.threads={threads}"]
    before = resource.getrusage(resource.RUSAGE_SELF)
    model = api.train(data / "train.csv", valid=data / "dev.csv", out=out, settings=settings)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = model.info.history[-1]
    rate = model.info.data["train"]["rows"] / last["seconds"]
    show(
        f"training, {threads} torch thread(s) + the loader's, three modalities",
        f"{rate:.0f} rows/s",
        f"waits for batches {100 * last['loader_share']:.1f} % of the time; {cpu:.0f} s of CPU",
    )


def texts(data: Path, folder: Path) -> None:
    """Answers that are texts, at the defaults' size. What is said is of no worth after one epoch;
    what it costs to say is that of any model of the size."""
    settings = ["train.epochs=1", f"decode.min_length={SYMBOLS}", f"decode.max_length={SYMBOLS}"]
    parts = {"valid": data / "dev.csv"}
    gist = api.train(
        data / "train.csv",
        **parts,
        out=folder / "gist",
        settings=["task=summarise", "modalities=[text]", *settings],
    )
    with (data / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": 8 * row["text"]} for row in csv.DictReader(file) if row["text"]]
    for n in (1, 16):
        ms = p50_ms(lambda n=n: list(gist.predict_many(rows[:n], batch_size=n)), times=20)
        show(
            f"summary of {SYMBOLS} symbols, beam 4, {n} record(s) at once",
            f"{1000 * n * SYMBOLS / ms:.0f} symbols/s",
        )
    ears = api.train(
        data / "train.csv", **parts, out=folder / "ears", settings=["task=transcribe", settings[0]]
    )
    soundfile.write(folder / "minute.wav", np.tile(preprocess._speech_like(), 20), 16_000)
    ms = p50_ms(lambda: ears.predict(audio=folder / "minute.wav"), times=5)
    show("transcription, of the recording's own time", f"{ms / 60_000:.4f}", "at most 0.05")


def million(model: Path, folder: Path) -> None:
    """Peak memory over growing manifests of short texts."""
    moodal = str(Path(PYTHON).with_name("moodal"))
    out = str(folder / "answers.jsonl")
    for n_rows in (10_000, 100_000, 1_000_000):
        path = folder / f"{n_rows}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(_rows(n_rows))
        parquet = path.with_suffix(".parquet")
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (FROM read_csv('{path}')) TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)"
            )
        for given in (path, parquet):
            seconds, peak = process(moodal, "data", "check", str(given), times=1)
            name = f"data check, {n_rows:,} texts, {given.suffix[1:]}"
            show(name, f"{peak:.0f} MB", f"{seconds:.0f} s")
        seconds, peak = process(
            moodal, "predict", str(path), "--model", str(model), "--out", out, times=1
        )
        show(f"predict, {n_rows:,} texts", f"{peak:.0f} MB", f"{seconds:.0f} s")


def _rows(n: int) -> Iterator[list[object]]:
    words = ["good", "bad", "room", "staff", "clean", "slow", "price", "never", "很好", "太慢"]
    rng = np.random.default_rng(0)
    yield ["id", "text", "label"]
    for row in range(n):
        picked = rng.choice(words, 8)
        yield [row, " ".join(picked) + f" {row}", "positive" if "good" in picked else "negative"]


def install(folder: Path) -> None:
    """A wheel's worth of files and its dependencies, without extras, in a folder of their own."""
    root = Path(__file__).parents[1]
    target = folder / "site"
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(target)]
    constraints = ["-c", str(root / "constraints.txt")]
    subprocess.run([*command, *constraints, str(root)], check=True, stderr=subprocess.DEVNULL)
    sizes = {p.name: _size_mb(p) for p in target.iterdir()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    note = ", ".join(f"{name} {size:.0f}" for name, size in largest)
    show(
        "run-time install, with its dependencies", f"{sum(sizes.values()):.0f} MB", "at most 300 MB"
    )
    print(f"  largest: {note}")


def _size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


def main() -> None:
    from moodal.data.toy import toy

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toy(folder / "data", rows=600)
        data, model = folder / "data", folder / "model"
        settings = list(MODEL)
        api.train(data / "train.csv", valid=data / "dev.csv", out=model, settings=settings)
        start_up()
        latency(folder)
        frames()
        texts(data, folder)
        training(data, folder / "again", 1)
        training(data, folder / "twice", 2)
        million(model, folder)
        install(folder)
        print(json.dumps({"cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
