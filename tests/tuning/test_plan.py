"""A search that cannot be is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import MakePlan

from moodal.errors import ConfigError
from moodal.tuning import plan


def test_counts_below_one_are_refused(make_plan: MakePlan) -> None:
    for name in ("trials", "seeds"):
        with pytest.raises(ConfigError, match=f"{name}=0: give 1 or more"):
            plan.check(make_plan(**{name: 0}))


def test_rows_that_are_learned_from_choose_nothing(make_plan: MakePlan, data: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.jsonl: is the file that is trained on"):
        plan.check(make_plan(valid=data / ".." / "data" / "train.jsonl"))


def test_a_folder_of_something_else_is_left_alone(make_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists and holds no search"):
        plan.check(make_plan(out=tmp_path))
    with pytest.raises(ConfigError, match=r"thesis\.txt: is a file; name a folder with --out"):
        plan.check(make_plan(out=tmp_path / "thesis.txt"))
    for marker in (plan.SPACE, plan.TRIALS):
        (tmp_path / marker).touch()
        plan.check(make_plan(out=tmp_path))
        (tmp_path / marker).unlink()


def test_the_trials_are_kept_in_the_folder_unless_an_address_is_given(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    assert make_plan().url == f"sqlite:///{tmp_path / 'out' / 'trials.db'}"
    assert make_plan(storage="postgresql://x/y").url == "postgresql://x/y"


def test_a_file_stands_only_once_it_is_whole(tmp_path: Path) -> None:
    plan.put(tmp_path / "new" / "a.yaml", "first")
    plan.put(tmp_path / "new" / "a.yaml", "second")
    assert (tmp_path / "new" / "a.yaml").read_text(encoding="utf-8") == "second"
    with pytest.raises(UnicodeEncodeError):
        plan.put(tmp_path / "new" / "a.yaml", "half \ud83d")
    assert (tmp_path / "new" / "a.yaml").read_text(encoding="utf-8") == "second"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.yaml"]
