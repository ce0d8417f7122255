"""Steps in order, each judged, each kept; stopped at any moment they go on; budgets are kept."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner

from moodal import api, bundle, cli, extras
from moodal.compress import report, run
from moodal.compress.judge import Measured
from moodal.compress.plan import MODEL, STEPS, Plan
from moodal.compress.result import Compressed
from moodal.errors import CapacityError, ConfigError, DataError, MoodalError
from moodal.runtime.lock import LOCK

QUICK = ("train.epochs=1", "prune.rounds=1", "prune.epochs=1")
MADE = {"classify": tiny.train_once, "transcribe": tiny.hear_once, "summarise": tiny.write_once}


def compressed(folder: Path, out: Path, **given: Any) -> Compressed:
    data = folder.parent / "data"
    settings = (*QUICK, f"cache={folder.parent / 'cache'}", *given.pop("settings", ()))
    values = {"train": data / "train.csv", "valid": data / "dev.csv", "max_drop": 99.0} | given
    return api.compress(folder, out=out, settings=settings, **values)


@pytest.fixture(scope="module", params=MADE)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Compressed]:
    """All three steps of a model of each task, any loss allowed."""
    folder = MADE[request.param]()
    return folder, compressed(folder, tmp_path_factory.mktemp("compressed") / "out")


def test_every_step_stands_and_the_last_is_handed_on(whole: tuple[Path, Compressed]) -> None:
    _, found = whole
    out = found.model.parent
    assert [step.name for step in found.steps] == ["distil", "prune", "quantise"]
    assert found.kept == "quantise"
    assert found.met
    sizes = [found.parent.megabytes]
    for number, step in enumerate(found.steps, 1):
        assert step.folder == out / STEPS / f"{number}-{step.name}"
        bundle.verify(step.folder)
        sizes.append(step.measured.megabytes)
    assert sizes[2] < sizes[0]  # integers of so small a model gain nothing
    assert [step.begun for step in found.steps[1:]] == [s.folder for s in found.steps[:2]]
    model = bundle.verify(out / MODEL)
    assert model.weights == "int8"
    assert model.files == bundle.load(found.steps[2].folder).files
    assert found.parent.drop == 0
    assert found.parent.score == found.parent.parent


def test_the_report_holds_what_was_found(whole: tuple[Path, Compressed]) -> None:
    _, found = whole
    out = found.model.parent
    values = json.loads((out / "report.json").read_text("utf-8"))
    assert values == json.loads(json.dumps(found.to_dict(), default=str))
    assert values["faster"] > 0
    html = (out / "report.html").read_text("utf-8")
    assert "<script" not in html
    for step in found.steps:
        assert f'<h2 id="{step.name}">' in html
        assert f"{step.measured.megabytes:.2f}" in html
    assert all(f'id="{cost}-' in html for cost in ("megabytes", "milliseconds"))
    assert "handed on" in report.table(found)


def test_only_what_changed_is_said_to_have_changed() -> None:
    facts = {"modalities": ["text", "image"], "parameters": [2, 1],
             "settings": {"fusion.width": [4, 2]},
             "rounds": [{"measured": {"interval": [-0.1, 0.1]},
                         "widths": {"mix": [8, 6]}}]}  # fmt: skip
    said = {row[0]: row[1] for _, _, rows in report._tables(facts) for row in rows}
    assert said == {"modalities": "text, image", "parameters": "2 → 1", "fusion.width": "4 → 2",
                    "interval": "-0.1, 0.1", "mix": "8 → 6"}  # fmt: skip


def test_what_is_done_is_not_done_again(
    whole: tuple[Path, Compressed], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = whole

    def never(*_: object) -> dict[str, Any]:
        raise AssertionError("this step was done")

    for name in run.DO:
        monkeypatch.setitem(run.DO, name, never)
    again = compressed(folder, found.model.parent)
    assert [step.measured for step in again.steps] == [step.measured for step in found.steps]
    with pytest.raises(AssertionError, match="this step was done"):
        compressed(folder, found.model.parent, settings=("distil.temperature=3",))


Drops = dict[str, float]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[[Drops, Drops], None]:
    """(drop of each step, MB of each step): steps that copy, and are found to be so."""

    def pretend(drops: Drops, sizes: Drops) -> None:
        def copy(plan: Plan, folder: Path, out: Path) -> dict[str, Any]:
            info = bundle.load(folder)
            files = {name: bundle.read(folder, info, name) for name in info.files}
            bundle.save(out, info.model_copy(update={"name": out.name}), files)
            return {}

        def judged(plan: Plan, folder: Path) -> Measured:
            name = folder.name.partition("-")[2]
            drop, size = drops.get(name, 0.0), sizes.get(name, 9.0)
            return Measured(size, 1.0, size, 1, 24, 0.9 - drop, 0.9, drop, None)

        for name in run.DO:
            monkeypatch.setitem(run.DO, name, copy)
        monkeypatch.setattr(run, "judge", judged)

    return pretend


def test_a_step_that_loses_too_much_is_kept_but_not_built_on(
    pretended: Callable[[Drops, Drops], None], tmp_path: Path
) -> None:
    pretended({"distil": 0.0, "prune": 0.02, "quantise": 0.01}, {"distil": 5, "prune": 3})
    found = compressed(tiny.write_once(), tmp_path / "out", max_drop=0.01)
    assert [step.stands for step in found.steps] == [True, False, True]
    assert found.steps[2].begun == found.steps[0].folder
    assert found.kept == "quantise"
    bundle.verify(found.steps[1].folder)
    assert "loses too much" in report.table(found)


def test_where_nothing_stands_the_model_is_as_it_was(
    pretended: Callable[[Drops, Drops], None], tmp_path: Path
) -> None:
    pretended(dict.fromkeys(run.DO, 0.5), {})
    folder = tiny.write_once()
    found = compressed(folder, tmp_path / "out", max_drop=0.01)
    assert not found.met
    assert found.kept == ""
    assert bundle.load(found.model).files == bundle.load(folder).files
    assert "No step stayed within the loss" in report.table(found)


def test_of_targets_that_no_step_meets_the_closest_is_kept_and_named(
    pretended: Callable[[Drops, Drops], None], tmp_path: Path
) -> None:
    """Whichever step it is."""
    pretended({}, {"distil": 3.0, "prune": 5.0, "quantise": 4.0})
    found = compressed(tiny.write_once(), tmp_path / "out", target_mb=2.0)
    assert found.kept == "distil"
    assert found.missed == {"target-mb": (2.0, 3.0)}
    assert not found.met
    assert "The size is 3.00 MB, 2.00 MB was asked for: this is the closest" in report.table(found)
    assert compressed(tiny.write_once(), tmp_path / "other", target_mb=5.0).kept == "quantise"


def test_the_command_prints_and_says_by_its_exit_code_whether_budgets_are_kept(
    pretended: Callable[[Drops, Drops], None], tmp_path: Path
) -> None:
    pretended({}, {"quantise": 4.0})
    folder = tiny.write_once()
    data = folder.parent / "data"
    given = ["compress", "--model", folder, "--train", data / "train.csv",
             "--valid", data / "dev.csv", "--out", tmp_path / "out"]  # fmt: skip
    done = CliRunner().invoke(cli.cli, list(map(str, [*given, "--target-mb", 4.5])))
    assert done.exit_code == 0, done.output
    assert "handed on" in done.stdout
    missed = CliRunner().invoke(cli.cli, list(map(str, [*given, "--target-mb", 1, "--json"])))
    assert missed.exit_code == 1
    assert json.loads(missed.stdout)["missed"] == {"target-mb": [1.0, 4.0]}


CALL = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from moodal import bundle
from moodal.compress import run, prune, teach
from moodal.runtime import output
from moodal.training import loop

def end(*_, **__): os.kill(os.getpid(), signal.SIGKILL)

{where}
from test_compress_run import compressed
compressed(Path({folder!r}), Path({out!r}), settings={settings!r})
"""
MOMENTS = {
    "in the student's training": """
save = loop._Fit.save
def saved(self): save(self); self.state.epoch == 1 and end()
loop._Fit.save = saved""",
    "before a step is known to be done": "output.whole = end",
    "while a bundle is renamed": """
put = bundle._put
def placed(temporary, folder): folder.name == "1-distil" and end(); put(temporary, folder)
bundle._put = placed""",
    "in the second round": """
judge, seen = prune.judge, []
def judged(*given): seen.append(1); len(seen) == 2 and end(); return judge(*given)
prune.judge = judged""",
    "while the model is handed on": """
put = bundle._put
def placed(temporary, folder): folder.name == "model" and end(); put(temporary, folder)
bundle._put = placed""",
}
LONGER = ("train.epochs=2", "prune.rounds=2", "train.checkpoint_seconds=0.001")


def process(folder: Path, out: Path, where: str = "") -> subprocess.Popen[str]:
    """One that compresses, and dies where it is told to."""
    tests = str(Path(__file__).parent)
    script = CALL.format(
        tests=tests, where=where, folder=str(folder), out=str(out), settings=LONGER
    )
    paths = os.pathsep.join([str(Path(__file__).parent.parent), tests, *sys.path])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=-1, text=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    return compressed(tiny.write_once(), out, settings=LONGER)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_goes_on(moment: str, unbroken: Compressed, tmp_path: Path) -> None:
    """And ends with the same weights, nothing broken and nothing left over."""
    out, folder = tmp_path / "out", tiny.write_once()
    died = process(folder, out, MOMENTS[moment])
    said = died.communicate(timeout=300)[1]
    assert died.returncode == -signal.SIGKILL, said[-2000:]
    for info in out.glob(f"**/{bundle.INFO}"):
        if not any(part.startswith(".") or "training" in part for part in info.parts):
            bundle.verify(info.parent)
    found = compressed(folder, out, settings=LONGER)
    for step, whole in zip(found.steps, unbroken.steps, strict=True):
        ours, theirs = (bundle.load(s.folder).files[bundle.WEIGHTS] for s in (step, whole))
        assert ours == theirs, step.name
    left = {path.name for path in (out, *(out / STEPS,)) for path in path.iterdir()}
    assert {name for name in left if name.startswith(".") or "rounds" in name} == {LOCK}


@pytest.mark.slow
def test_two_processes_do_each_step_once(tmp_path: Path) -> None:
    both = [process(tiny.write_once(), tmp_path / "out") for _ in range(2)]
    said = [other.communicate(timeout=300)[1] for other in both]
    assert [other.returncode for other in both] == [0, 0], said
    assert sum(text.count("distil: from") for text in said) == 1, said
    assert sum("another process compresses into" in text for text in said) <= 1
    bundle.verify(tmp_path / "out" / MODEL)


def other_file(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "out").write_text("mine")
    return {}


def other_folder(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    return {}


def no_labels(tmp_path: Path) -> dict[str, Any]:
    data = shutil.copytree(tiny.write_once().parent / "data", tmp_path / "data")
    with (data / "dev.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    with (data / "none.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *([*row[:4], "", "", ""] for row in rows)])
    return {"valid": data / "none.csv"}


def same_rows(tmp_path: Path) -> dict[str, Any]:
    return {"valid": tiny.write_once().parent / "data" / "train.csv"}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"steps": ("shrink",)}, ConfigError, "--steps shrink: there are distil, prune"),
        ({"steps": ()}, ConfigError, "--steps is empty"),
        ({"steps": ("prune", "prune")}, ConfigError, "names prune twice"),
        ({"steps": ("quantise", "prune")}, ConfigError, "quantise comes last"),
        ({"max_drop": -1.0}, ConfigError, "--max-drop -1: give a number above 0"),
        ({"target_ms": 0.0}, ConfigError, "--target-ms 0: give a number above 0"),
        ({"settings": ("distil.soft=2",)}, ConfigError, "distil.soft=2: .* less than or equal"),
        ({"settings": ("prune.shares=2",)}, ConfigError, "prune.shares: there is no such setting"),
        (same_rows, ConfigError, "is the file that is trained on"),
        (other_file, ConfigError, "out: is a file; name a folder with --out"),
        (other_folder, ConfigError, "exists and holds no compression"),
        (no_labels, DataError, r"none.csv row 1 on .*\(16 without a label, 0 rejected\)"),
    ],
)
def test_wrong_input_is_said_before_any_work(
    given: Any, error: type[MoodalError], said: str, tmp_path: Path
) -> None:
    given = given(tmp_path) if callable(given) else given
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=said):
        compressed(tiny.write_once(), tmp_path / "out", **given)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_the_extra_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError("no", name="torch_pruning")

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(CapacityError, match=r"compression needs .*'moodal\[compress\]'"):
        compressed(tiny.write_once(), tmp_path / "out")


def test_a_page_says_nothing_that_could_run(whole: tuple[Path, Compressed]) -> None:
    _, found = whole
    evil = "<img src=x onerror=alert(1)>"
    first = replace(found.steps[0], facts={"teachers": [evil], evil: {evil: [1, 2]}})
    html = report.render(replace(found, name=evil, steps=(first, *found.steps[1:])))
    assert evil not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 4
