"""docs/streaming.md: its examples run as they stand, its limits are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moodal.preprocess.audio import wav
from moodal.serve.settings import Limits
from tests import tiny
from tests.serve.conftest import Running
from tests.serve.speech import say

PAGE = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text(encoding="utf-8")
SPEECH, TENSORS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(example: str, server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "speech.wav").write_bytes(wav(say(2.5)))
    (folder / "face.jpg").write_bytes(tiny.png(tiny.picture("good", tiny.np.random.default_rng(0))))
    monkeypatch.chdir(folder)
    here = example.replace("127.0.0.1:8000", f"{server.host}:{server.port}")
    exec(here.replace('"base"', repr(server.service.model.info.name)), {})


def test_the_speaking_client_is_answered(
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(SPEECH, server, tmp_path, monkeypatch)
    types = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert types == ["answer", "answer", "final"]


def test_tritons_client_is_answered(
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(f"{TENSORS}\nclient.close()", server, tmp_path, monkeypatch)
    assert "[['text'], ['image']]" in capsys.readouterr().out


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `limits\.(\w+)` \| (\S+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for name, default in rows:
        assert getattr(Limits(), name) == float(default)
