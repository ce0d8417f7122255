"""Settings -> the application: one service, and the routes that lead to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from moodal.serve import (
    about,
    answers,
    documents,
    feedback,
    inference_v2,
    monitored,
    page,
    review,
    stream,
)
from moodal.serve.edge import Edge
from moodal.serve.errors import RefusalError
from moodal.serve.rounds import Rounds
from moodal.serve.schema import invalid
from moodal.serve.service import Service
from moodal.serve.settings import Serve


def create(settings: Serve, *, together: Path | None = None) -> FastAPI:
    """The application; its state holds the service, which is open. It answers between the
    application's start and stop.

    together: as of Service.
    Raises: MoodalError.
    """
    service = Service(settings, together=together)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        rounds = Rounds(service)
        rounds.start()
        yield
        await rounds.stop()
        await service.stop()

    app = FastAPI(
        title="moodal",
        version=version("moodal"),
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for part in (answers, feedback, review, monitored, about, inference_v2):
        app.include_router(part.router(service))
    app.router.routes += [*stream.routes(service), *page.routes()]
    _tell_errors(app)
    _show(app, settings)
    # Outside even of what Starlette puts around everything, so that nothing else tells errors.
    app.state.edge = app.middleware_stack = Edge(app, service, answers.lanes(service))
    return app


def _tell_errors(app: FastAPI) -> None:
    """What FastAPI and Starlette find wrong, in our one shape; the rest is told at the edge."""

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = first["loc"][1:]  # without "query" or "path"
        raise invalid(first["type"], first["msg"], place, first.get("input"))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        raise error

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        path, method = request.url.path[:100], request.method
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            message = f"{path} knows {allowed}, not {method}"
            raise RefusalError("method_not_allowed", message, headers=error.headers)
        if error.status_code == 404:
            raise RefusalError("not_found", f"there is no {path}; /docs lists what there is")
        raise RefusalError("bad_request", str(error.detail))


def _show(app: FastAPI, settings: Serve) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(to_json(documents.document(app, settings)), media_type=documents.JSON)
