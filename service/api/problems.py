"""Every refusal as one RFC 9457 problem document with all the faults in it, and never a word of what went on inside."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from service.api.auth import ProviderAwayError
from service.api.models import FaultAnswer, Problem
from service.api.sweep_views import ViewError
from service.errors import Fault, SpecError, SweepNotFoundError, TuneyardError
from service.queueing.lifecycle import IllegalMoveError
from service.spec.document import shorten, shown, written
from service.store import (
    KeyConflictError,
    ProjectNotFoundError,
    StoreError,
    UncertainWriteError,
    UnstorableError,
    VersionConflictError,
)

MEDIA_TYPE: Final = "application/problem+json"
AWAY: Final = 503
_log: Final = logging.getLogger("tuneyard.api")
_SECRETS: Final = ("secret", "token", "password", "authorization")
_MOST_FAULTS: Final = 100


class ProblemError(HTTPException):
    """A refusal; `kind` lets programs tell kinds apart. It is an HTTPException so that FastAPI lets it through."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        faults: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.kind, self.faults = kind, tuple(faults)


def not_found(what: str) -> ProblemError:
    """A 404, the same for what is not there and for what is somebody else's."""
    return ProblemError(404, "not-found", f"{what} is not here, or you may not see it")


def forbidden(detail: str) -> ProblemError:
    """A 403 for what may be seen but not done."""
    return ProblemError(403, "forbidden", detail)


def unfit(*faults: Fault) -> ProblemError:
    """A 422 with `faults`."""
    return ProblemError(422, "invalid", f"{len(faults)} fault{'s' if len(faults) != 1 else ''}", faults=faults)


_NO_STORAGE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE)
_SOON: Final = {"Retry-After": "2"}  # stands only where nothing was done: a client then asks again by itself
_KINDS: Final[tuple[tuple[type[TuneyardError], int, str], ...]] = (  # the first that fits
    (ViewError, 503, "unreadable-record"),
    (ProviderAwayError, 503, "provider-away"),
    (SweepNotFoundError, 404, "not-found"),
    (ProjectNotFoundError, 404, "not-found"),
    (KeyConflictError, 409, "key-conflict"),
    (IllegalMoveError, 409, "illegal-move"),
    (VersionConflictError, 412, "version-conflict"),
    (TuneyardError, 409, "refused"),
)


def problem_of(error: Exception) -> ProblemError | None:
    """The problem that an error of ours is; None for one that nobody expected."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, SpecError):
        return unfit(*error.faults)
    if isinstance(error, StoreError):
        return _of_store(error)
    if isinstance(error, OSError) and error.errno in _NO_STORAGE:
        _log.error("the data folder cannot be used", exc_info=error)
        detail = "the server's disk is full, or cannot be used; its operator has to see to it, then try again"
        return ProblemError(AWAY, "no-storage", detail, headers=_SOON)
    for kind, status, name in _KINDS:
        if isinstance(error, kind):
            return ProblemError(status, name, str(error), headers=_SOON if status == AWAY else None)
    return None


def _of_store(error: StoreError) -> ProblemError:
    if isinstance(error, UnstorableError):
        return unfit(Fault(str(error)))
    _log.error("the store refuses: %s", error)
    if isinstance(error, UncertainWriteError):
        detail = "the database broke off while this was written; look whether it is done before you ask again"
        return ProblemError(AWAY, "uncertain", detail)  # without Retry-After: whoever reads one may do it twice
    return ProblemError(AWAY, "unavailable", "the database does not answer; try again", headers=_SOON)


def document(problem: ProblemError, request_id: str) -> dict[str, Any]:
    """The body of the answer."""
    faults = [
        FaultAnswer(message=f.message, path=f.path, given=f.given, allowed=f.allowed, nearest=f.nearest)
        for f in problem.faults[:_MOST_FAULTS]
    ]
    return Problem(
        type=f"urn:tuneyard:{problem.kind}",
        title=HTTPStatus(problem.status_code).phrase,
        status=problem.status_code,
        detail=problem.detail,
        instance=f"urn:tuneyard:request:{request_id}",
        faults=faults,
    ).model_dump(mode="json", exclude_none=True)


def answer(problem: ProblemError, request_id: str) -> Response:
    """The answer that says so."""
    body = document(problem, request_id)
    return JSONResponse(body, problem.status_code, dict(problem.headers or {}), media_type=MEDIA_TYPE)


def register(app: FastAPI) -> None:
    """Let every error of `app` become a problem document."""
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(TuneyardError, _on_any)


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _on_any(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        _log.error("request %s failed", _request_id(request), exc_info=error)
        detail = "something went wrong here; the server's log has it under this request's id"
        problem = ProblemError(500, "internal", detail)
    return answer(problem, _request_id(request))


async def _on_http(request: Request, error: Exception) -> Response:
    if isinstance(error, ProblemError) or not isinstance(error, HTTPException):
        return await _on_any(request, error)
    kinds = {404: "no-such-path", 405: "no-such-method", 400: "unreadable"}
    text = {404: "there is no such path; see /api/v1/docs", 405: "this path does not take this method"}
    detail = text.get(error.status_code, str(error.detail))
    kind = kinds.get(error.status_code, "refused")
    return answer(ProblemError(error.status_code, kind, detail, headers=error.headers), _request_id(request))


async def _on_validation(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    return answer(unfit(*map(_fault, found)), _request_id(request))


def _fault(detail: Mapping[str, Any]) -> Fault:
    steps = tuple(step for step in detail.get("loc", ()) if step != "body")
    place = written(tuple(step if isinstance(step, int) else shorten(str(step)) for step in steps))
    is_secret = any(word in place.lower() for word in _SECRETS)
    is_shown = not is_secret and detail.get("type") not in ("missing", "json_invalid") and "input" in detail
    given = shown(detail["input"]) if is_shown else None
    return Fault(shorten(str(detail.get("msg", "is wrong")), 300), place, given=given)
