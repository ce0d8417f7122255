"""Who may write to a folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from moodal.runtime.lock import alone


def test_only_one_process_at_a_time_is_let_in(tmp_path: Path) -> None:
    there = tmp_path / "there"
    code = f"""
from pathlib import Path
from moodal.runtime.lock import alone
with alone(Path({str(tmp_path / "in")!r}), "writes"):
    Path({str(there)!r}).touch()
"""
    with alone(tmp_path / "in", "writes"):
        other = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert other.stderr
        assert other.stderr.readline() == "another process writes: waiting for it\n"
        time.sleep(0.5)
        assert not there.exists()
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert there.exists()
