"""What the service says of itself: is it alive, is it ready, which model answers, how it fares."""

from __future__ import annotations

from fastapi import APIRouter, Response

from moodal.serve import documents, metrics
from moodal.serve.schema import Alive, ModelCard, Ready
from moodal.serve.service import Service
from moodal.tasks import TASKS


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["about"])

    @routes.get("/healthz", response_model=Alive, **documents.refusals())
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @routes.get("/readyz", response_model=Ready, **documents.ready())
    async def readyz() -> Response:
        """The model is warm and the engine runs; a journal that is away does not count, since rows
        wait for it."""
        ready, counts = service.ready, service.spool.counts
        told = Ready(
            ready=ready,
            model_version=service.version,
            journal=counts.error or "reachable",
            waiting_bytes=counts.waiting,
        )
        return Response(told.model_dump_json(), 200 if ready else 503, media_type=documents.JSON)

    @routes.get("/metrics", **documents.refusals(kind="text/plain"))
    async def scrape() -> Response:
        """Everything that is counted, for Prometheus."""
        service.look()
        return Response(service.metrics.render(), headers={"content-type": metrics.CONTENT_TYPE})

    @routes.get("/v1/model", response_model=ModelCard, **documents.refusals())
    async def model() -> Response:
        """The model that answers now, and what it takes."""
        return Response(_card(service).model_dump_json(), media_type=documents.JSON)

    return routes


def _card(service: Service) -> ModelCard:
    info, settings = service.model.info, service.settings
    return ModelCard(
        name=info.name,
        version=service.version,
        task=info.task,
        # Of a model that answers with a text, labels are the thousands of symbols it is made of.
        labels=list(info.labels) if TASKS[info.task].head == "summary" else [],
        modalities=list(info.modalities),
        kinds={str(m): kind for m, kind in info.kinds.items()},
        created=info.created,
        threshold=info.threshold,
        parameters=info.parameters,
        scores=info.scores,
        transcriber=settings.transcriber is not None,
        keeps_inputs=settings.keep_inputs is not None,
        limits=settings.limits.model_dump(),
    )
