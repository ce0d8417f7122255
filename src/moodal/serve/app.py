"""Settings -> the application: one service, and the routes that lead to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from moodal.serve import about, answers
from moodal.serve.errors import RefusalError
from moodal.serve.service import Service
from moodal.serve.settings import Serve


def create(settings: Serve) -> FastAPI:
    """The service, its model loaded; it runs between the application's start and stop.

    Raises: MoodalError.
    """
    service = Service(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(title="moodal", lifespan=life, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_exception_handler(RefusalError, _refuse)
    for part in (answers, about):
        app.include_router(part.router(service))
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError), "registered for nothing else"
    return Response(error.body(), error.status, dict(error.headers), "application/json")
