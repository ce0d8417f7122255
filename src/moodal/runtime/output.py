"""What goes out: answers to a file, which stands once it is whole, or not at all; and progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from moodal import bundle
from moodal.errors import ConfigError


def check_place(out: Path, file: Path) -> None:
    """Refuse, before any work is done. Raises: ConfigError."""
    with bundle.writing(out):
        if not out.parent.is_dir():
            raise ConfigError(f"{out}: there is no folder {out.parent}; make it first")
        if out.exists() and not out.is_file():
            raise ConfigError(f"{out}: is a folder or a device; name a file, or leave it out")
        if out.exists() and file.exists() and out.samefile(file):
            raise ConfigError(f"{out}: is the file that is read; name another for the answers")


@contextmanager
def lines(out: Path | None) -> Iterator[Callable[[Mapping[str, Any]], object]]:
    """Write objects as JSON lines; a file stands only once it is whole."""

    def line(values: Mapping[str, Any]) -> str:
        return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

    if out is None:
        yield lambda values: sys.stdout.write(line(values))
        return
    # What UTF-8 cannot hold, half a surrogate pair, is written as JSON escapes it.
    with (
        whole(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        yield lambda values: file.write(line(values))


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A name to write to beside `out`, which becomes `out` once all went well."""
    with bundle.writing(out):
        out = out.resolve()  # a link stays one
        temporary = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            yield temporary
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)


def say(line: str) -> None:
    """Progress, for people: on stderr, past a bar that may stand there."""
    tqdm.write(line, file=sys.stderr)
