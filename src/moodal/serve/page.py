"""The web page: files that come with the package, sent from memory under a strict policy."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from moodal.serve.errors import RefusalError

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

# Pico's icons are data: pictures; what the user drops or records is shown as blob:.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
# nosniff comes with every answer of the service.
SAFE = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Asset(NamedTuple):
    """A file of the page, and its media type."""

    content: bytes
    media: str


def routes() -> list[Route]:
    """`/`, `/docs` and the files that they load, under `/ui/RELEASE/`.

    RELEASE is the hash of all the files, so that browsers may keep each for ever and a new version
    is a new address. Only names found here at start are known: no request makes a path.
    """
    assets = dict(_walk(files("moodal.serve") / "ui", PurePosixPath()))
    release = _release(assets)

    async def asset(request: Request) -> Response:
        found = assets.get(request.path_params["name"])
        if found is None or request.path_params["release"] != release:
            raise RefusalError("not_found", "there is no such file; load the page again")
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(found.content, media_type=found.media, headers=SAFE | kept)

    return [
        _document("/", assets["index.html"], release),
        _document("/docs", assets["docs.html"], release),
        Route("/ui/{release}/{name:path}", asset, include_in_schema=False),
    ]


def _document(path: str, page: Asset, release: str) -> Route:
    content = page.content.replace(b"RELEASE", release.encode())
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = SAFE | {"Cache-Control": "no-cache", "ETag": tag}

    async def document(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=page.media, headers=headers)

    return Route(path, document, include_in_schema=False)


def _walk(folder: Traversable, at: PurePosixPath) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        name = at / entry.name
        if entry.is_dir():
            found += _walk(entry, name)
        elif media := TYPES.get(name.suffix):
            found.append((str(name), Asset(entry.read_bytes(), media)))
    return found


def _release(assets: dict[str, Asset]) -> str:
    digest = hashlib.sha256()
    for name in sorted(assets):
        digest.update(name.encode() + b"\0" + assets[name].content)
    return digest.hexdigest()[:12]
