"""A page for people: a template and values in, one self-contained HTML file out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from moodal.errors import CapacityError

SHARED = "moodal.evaluation"
"""Where page.html.jinja and words.html.jinja lie, which every page is made with."""
PACKAGES = ("jinja2", "matplotlib")


def check_packages() -> None:
    """Say before the work is done, not after it, that no page can be made.

    Raises: CapacityError.
    """
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise CapacityError(
                f"the report needs {package}, which is not installed; pip install 'moodal[report]'"
            ) from error


def render(
    template: str,
    values: Mapping[str, Any],
    *,
    package: str,
    filters: Mapping[str, Callable[..., str]],
) -> str:
    """A template of a package as HTML, values escaped; no script, and nothing is fetched.

    Raises: CapacityError when jinja2 is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise CapacityError(
            "the report needs jinja2, which is not installed; pip install 'moodal[report]'"
        ) from error
    own = {template: resources.files(package).joinpath(template).read_text(encoding="utf-8")}
    shared = {
        name: resources.files(SHARED).joinpath(name).read_text(encoding="utf-8")
        for name in ("page.html.jinja", "words.html.jinja")
    }
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.DictLoader(shared | own),
    )
    environment.filters |= {"number": number, "interval": interval, **filters}
    return environment.get_template(template).render(values)


def write(out: Path, files: Mapping[str, str]) -> None:
    """All of them or none: each is whole under a temporary name before any is renamed."""
    with tempfile.TemporaryDirectory(prefix=".report.", dir=out) as folder:
        for name, text in files.items():
            # Half a surrogate pair, which JSON can hold and UTF-8 cannot, is written as \ud800.
            Path(folder, name).write_text(text, encoding="utf-8", errors="backslashreplace")
        for name in files:
            Path(folder, name).replace(out / name)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
