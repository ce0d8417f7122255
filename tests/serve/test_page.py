"""The page's files: their headers, their origin, and what they may not hold. No browser."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from tests.serve.conftest import Running

UI = Path(str(files("moodal.serve") / "ui"))
OWN = sorted(path for path in UI.iterdir() if path.suffix in (".js", ".html", ".css"))
SCRIPTS = [path for path in OWN if path.suffix == ".js"]

_ROW = re.compile(r"^\| `([^`]+)` \| (\S+) \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
_STRING = re.compile(r'^  "?([\w.]+)"?:\s+("(?:[^"\\]|\\.)*"),$', re.MULTILINE)
_ASKED = re.compile(r'\bt\(\s*"([^"]+)"')
_MADE = re.compile(r'\bt\(`([a-z.]+\.)\$|(?:nameOf\("|known\(`)([a-z]+)')
"""Keys that are put together: what they begin with."""


def strings(language: str) -> dict[str, str]:
    """What strings.js says in a language."""
    text = (UI / "strings.js").read_text(encoding="utf-8")
    [block] = re.findall(rf"^const {language} = \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL)
    return {key: json.loads(value) for key, value in _STRING.findall(block)}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_document_comes_with_a_strict_policy(server: Running, path: str) -> None:
    reply = server.get(path)
    policy = dict(
        part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; ")
    )
    assert reply.status == 200
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"script-src", "style-src"} & set(policy), "nothing looser than the default"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-cache"


def test_an_unchanged_document_is_not_sent_twice(server: Running) -> None:
    tag = server.get("/").headers["etag"]
    again = server.get("/", {"if-none-match": tag})
    assert (again.status, again.body) == (304, b"")


def test_every_file_a_document_names_is_there_and_kept_for_ever(server: Running) -> None:
    named = re.findall(r'(?:href|src)="(/ui/[^"]+)"', server.get("/").body.decode())
    assert len(named) == 5
    for path in named:
        reply = server.get(path)
        assert reply.status == 200, path
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/ui/{}/none.js", "/ui/{}/../page.py", "/ui/{}/%2e%2e/page.py", "/ui/old/main.js"]
)
def test_no_request_makes_a_path(server: Running, path: str) -> None:
    [release] = re.findall(r"/ui/(\w+)/main.js", server.get("/").body.decode())
    reply = server.get(path.format(release))
    assert reply.status == 404
    assert reply.json()["error"]["code"] == "not_found"


def test_what_others_wrote_is_what_they_published() -> None:
    vendor = UI / "vendor"
    told = _ROW.findall((vendor / "README.md").read_text(encoding="utf-8"))
    assert {name for name, _, _ in told} == {p.name for p in vendor.iterdir()} - {"README.md"}
    for name, package, digest in told:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
        assert re.fullmatch(r"@?[\w/-]+@\d+\.\d+\.\d+", package)
        assert not name.endswith((".js", ".css")) or list(vendor.glob("*.LICENSE.txt"))


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_files_hold_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.search(forbidden + r"|dangerouslySetInnerHTML", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)\w", text), "no other origin"
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
    else:
        assert len(text.splitlines()) <= 400 or path.name == "strings.js"


def test_both_languages_say_the_same_things() -> None:
    en, zh = strings("en"), strings("zh")
    assert list(en) == list(zh)
    for key, sentence in en.items():
        assert set(re.findall(r"\{\w+\}", sentence)) == set(re.findall(r"\{\w+\}", zh[key])), key
        assert zh[key].strip(), key


def test_every_sentence_is_said_somewhere_and_every_one_asked_for_is_there() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in SCRIPTS if path.name != "strings.js"
    )
    asked = set(_ASKED.findall(code))
    quoted = set(re.findall(r'"([a-z]+\.\w+)"', code))
    made = tuple({"".join(found).rstrip(".") + "." for found in _MADE.findall(code)})
    en = set(strings("en"))
    assert asked <= en, asked - en
    silent = {key for key in en - asked - quoted if not key.startswith(made)}
    assert not silent
