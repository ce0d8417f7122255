"""What the service says of itself: is it alive, is it ready, which model answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic_core import to_json

from moodal.serve.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["about"])

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @routes.get("/readyz")
    async def readyz() -> Response:
        """The model is warm and the engine runs."""
        ready = service.ready
        values = {"ready": ready, "model_version": service.version}
        return Response(to_json(values), 200 if ready else 503, media_type="application/json")

    @routes.get("/v1/model")
    async def model() -> dict[str, Any]:
        """The model that answers now."""
        info = service.model.info
        return {
            "name": info.name,
            "version": service.version,
            "task": info.task,
            "labels": info.labels,
            "modalities": info.modalities,
            "created": info.created,
            "threshold": info.threshold,
            "scores": info.scores,
        }

    return routes
