"""The HTTP interface: `create_app(service)` puts the routes, their guards and the problem documents together.

It holds no logic of its own: routes ask the store, the lifecycle and the sweeps' folders.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response

from service.api import access, cluster, events, packages, problems, trials
from service.api import sweeps as api_sweeps
from service.api.docs import page
from service.api.guard import router
from service.api.limits import Gate
from service.api.metrics import MEDIA_TYPE, Metrics
from service.api.models import Health, Problem
from service.api.rules import PREFIX
from service.api.service import Service, own_version
from service.api.streams import Streams
from service.errors import TuneyardError

_ROUTES: Final = (api_sweeps, trials, events, packages, cluster, access)
_ABOUT: Final = (
    "Submit sweeps to a cluster, watch them, and get what came of them. Every refusal is a problem document."
)
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def create_app(service: Service) -> FastAPI:
    """The application over `service`, which whoever has made it closes."""
    app = FastAPI(title="Tuneyard", version=own_version(), openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.streams = Streams(service.limits.streams, service.limits.streams_of_a_user)
    metrics = Metrics(lambda: {str(state): count for state, count in service.store.counts().items()}, service.figures)
    metrics.streams.set_function(lambda: app.state.streams.count)
    for module in _ROUTES:
        app.include_router(module.routes)
    app.include_router(_about_itself(app, service, metrics))
    problems.register(app)
    app.add_middleware(Gate, service=service, metrics=metrics)
    return app


def _about_itself(app: FastAPI, service: Service, metrics: Metrics) -> APIRouter:
    """The routes that say how the service is and what it can do."""
    routes = router()

    @routes.get("/healthz", response_model=Health)
    async def healthz() -> Health:
        """Whether the process lives; it waits for nobody, neither a thread nor the database."""
        return Health(status="ok", checks={}, version=own_version())

    @routes.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    def readyz() -> Response:
        """Whether it takes requests; 503 where it does not."""
        found = _readiness(service)
        return JSONResponse(found.model_dump(mode="json"), 200 if found.status == "ok" else 503)

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}})
    def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    @routes.get(f"{PREFIX}/openapi.json", response_model=dict[str, Any])
    def openapi() -> JSONResponse:
        """This interface as an OpenAPI document."""
        return JSONResponse(openapi_document(app))

    @routes.get(f"{PREFIX}/docs", response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        """This interface as a page."""
        return HTMLResponse(page(openapi_document(app)), headers={"Content-Security-Policy": _PAGE_POLICY})

    return routes


def _readiness(service: Service) -> Health:
    checks = {"store": "", **service.checks()}
    try:
        service.store.ping()
    except TuneyardError:
        checks["store"] = "the database does not answer"
    if service.draining.is_set():
        return Health(status="draining", checks=checks, version=own_version())
    # Without its cluster it takes submissions all the same: they wait, as they do for a place.
    is_failing = any(wrong for part, wrong in checks.items() if part != "cluster")
    return Health(status="failing" if is_failing else "ok", checks=checks, version=own_version())


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; each operation says under `x-needs` who may use it."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        components = found.setdefault("components", {})
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components.setdefault("schemas", {}).update({**problem.pop("$defs", {}), "Problem": problem})
        app.openapi_schema = found
    return app.openapi_schema
