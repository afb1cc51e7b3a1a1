"""Routes that show what came of a sweep: trials, report, best configuration, several sweeps side by side."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Query
from fastapi.responses import Response

from service.api.guard import AskingOfSweep, Caller, router
from service.api.models import BestAnswer, Comparison, Details
from service.api.problems import ProblemError
from service.api.rules import PREFIX
from service.api.sweeps import SweepText, plain
from service.records import SweepRecord

routes = router()
_MOST_COMPARED: Final = 20
_PAGE_POLICY: Final = (  # the report is a page with a script of its own, and may reach nothing, this service neither
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
)
_HTML: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/html": {}}, "description": "One page that needs nothing else."}
}


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/trials", response_model=Details)
def list_trials(
    sweep: SweepText,
    caller: AskingOfSweep,
    offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 1000,
    insight: Annotated[bool, Query(description="Also what the trials teach, which takes longer.")] = False,  # noqa: FBT002  # a flag of the query
) -> dict[str, Any]:
    """A sweep's trials, the best first."""
    record = caller.sweep(sweep)
    found = caller.service.views.details(record, offset=offset, limit=limit, insight=insight)
    head = {"sweep_id": record.id, "state": record.state, "progress": plain(caller.service.views.progress(record))}
    return {**head, **(found or _nothing_yet(record))}


def _nothing_yet(record: SweepRecord) -> dict[str, Any]:
    metrics = _metrics(record)
    names = [metric["name"] for metric in metrics]
    return {"metric": metrics[0], "objectives": names, "trials": [], "trials_total": 0, "race": None}


def _metrics(record: SweepRecord) -> list[dict[str, Any]]:
    """The objectives that the sweep file names."""
    found = [record.spec["metric"]] if "metric" in record.spec else record.spec["metrics"]
    return [{"name": metric["name"], "goal": metric["goal"]} for metric in found]


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/report", response_model=dict[str, Any])
def report(sweep: SweepText, caller: AskingOfSweep) -> Response:
    """A sweep's report as data: as left at its end, or as far as its record tells."""
    return Response(_report_file(caller, sweep, "report.json"), media_type="application/json")


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/report.html", response_class=Response, responses=_HTML)
def report_page(sweep: SweepText, caller: AskingOfSweep) -> Response:
    """A sweep's report as one HTML page."""
    headers = {"Content-Security-Policy": _PAGE_POLICY}
    return Response(_report_file(caller, sweep, "report.html"), media_type="text/html", headers=headers)


def _report_file(caller: Caller, text: str, name: str) -> str:
    record = caller.sweep(text)
    found = caller.service.views.report(record, name)
    if found is None:
        detail = f"no trial of {record.id} has reported yet, so there is no report"
        raise ProblemError(404, "no-report", detail)
    return found


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/best", response_model=BestAnswer)
def best(sweep: SweepText, caller: AskingOfSweep) -> dict[str, Any]:
    """A sweep's best trial so far, and the LightningCLI config that trains it again."""
    record = caller.sweep(sweep)
    config = caller.service.views.report(record, "best.yaml")
    progress = plain(caller.service.views.progress(record))
    return {
        "sweep_id": record.id,
        "metric": progress.get("metric") or _metrics(record)[0],
        "best": progress.get("best"),
        "config": config,
    }


@routes.get(f"{PREFIX}/compare", response_model=Comparison)
def compare(
    caller: AskingOfSweep, sweep: Annotated[list[str], Query(min_length=1, max_length=_MOST_COMPARED)]
) -> dict[str, Any]:
    """Several sweeps side by side, in the order in which they are named."""
    return {"sweeps": [_compared(caller, caller.sweep(text)) for text in sweep]}


def _compared(caller: Caller, record: SweepRecord) -> dict[str, Any]:
    progress = plain(caller.service.views.progress(record))
    curve = caller.service.views.curve(record) or {
        "search": record.spec["search"]["name"], "scheduler": record.spec["scheduler"]["name"], "best_over_time": [],
        "epochs": 0, "elapsed_s": None, "trials": {},
    }  # fmt: skip
    return {
        "sweep_id": record.id,
        "name": record.name,
        "state": record.state,
        "metric": progress.get("metric") or _metrics(record)[0],
        "best": progress.get("best"),
        "trial_hours": record.trial_hours,
        **curve,
    }
