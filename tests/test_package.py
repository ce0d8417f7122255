"""The public names: few, all there, and free until they are used."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import moodal


def test_the_public_names_are_few_and_all_load() -> None:
    assert len(moodal.__all__) <= 12
    assert sorted(moodal.__all__) == moodal.__all__
    for name in moodal.__all__:
        assert inspect.getdoc(getattr(moodal, name)), f"{name} has no docstring"


def test_every_name_of_the_contract_is_public() -> None:
    contract = {"load", "train", "evaluate", "Record", "Prediction", "MoodalError"}
    assert contract <= set(moodal.__all__)


def test_type_checkers_and_python_see_the_same_names() -> None:
    assert set(moodal.__all__) == set(moodal._HOMES)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict_all'"):
        moodal.predict_all  # noqa: B018


VERBS = """
import moodal.evaluation.report, moodal.training.run
import moodal
from moodal import evaluate, load, train
assert callable(moodal.train) and callable(train)
assert callable(moodal.evaluate) and callable(evaluate)
"""


def test_the_verbs_stay_verbs_once_their_folders_are_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", VERBS], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


LOADED = """
import json, sys
import moodal
first = sorted(m for m in sys.modules if m.split(".")[0] == "moodal")
moodal.MoodalError
light = "pydantic" in sys.modules
moodal.Model, moodal.load, moodal.evaluate, moodal.Report, moodal.Run
import moodal.cli
print(json.dumps([first, light, [m for m in ("torch", "matplotlib", "av") if m in sys.modules]]))
"""


def test_nothing_is_loaded_before_it_is_used_and_torch_not_even_then() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True)
    first, light, heavy = json.loads(done.stdout)
    assert first == ["moodal"]
    assert not light, "an error costs no pydantic"
    assert not heavy
