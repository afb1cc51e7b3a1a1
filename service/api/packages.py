"""Routes for code packages: zips known by the SHA-256 of their bytes, which are examined and unpacked, never run."""

from __future__ import annotations

import hashlib
import math
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from service.api.guard import Asking, Caller, ProjectQuery, router
from service.api.models import DIGEST, PackageAnswer, PackageList
from service.api.problems import ProblemError, not_found, unfit
from service.api.rules import PREFIX
from service.errors import Fault
from service.queueing.rooms import quota_of
from service.shipping.kept import keep
from service.shipping.unpacking import unpack

routes = router()
DigestPath = Annotated[str, Path(pattern=DIGEST, description="SHA-256 of the zip, in hex.")]
_ZIP: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@routes.get(f"{PREFIX}/packages", response_model=PackageList)
def list_packages(caller: Asking, project: ProjectQuery = None) -> dict[str, Any]:
    """The code packages of a project."""
    found = caller.service.store.packages(frozenset((caller.project(project),)))
    return {"items": [asdict(package) for package in found]}


@routes.head(f"{PREFIX}/packages/{{digest}}", response_class=Response)
def has_package(digest: DigestPath, caller: Asking, project: ProjectQuery = None) -> Response:
    """200 where the project has the package, 404 where it has to be sent."""
    if caller.service.package(digest, caller.project(project)) is None:
        msg = "the package"
        raise not_found(msg)
    return Response(status_code=200)


@routes.put(f"{PREFIX}/packages/{{digest}}", status_code=201, response_model=PackageAnswer, openapi_extra=_ZIP)
async def put_package(
    digest: DigestPath, request: Request, caller: Asking, project: ProjectQuery = None
) -> dict[str, Any]:
    """Send a package; sending it again changes nothing."""
    place = await run_in_threadpool(caller.project, project)
    folder = caller.service.home / "packages"
    partial = folder / f".{secrets.token_hex(8)}.partial"
    try:
        await run_in_threadpool(_tidy, folder, 2 * caller.service.limits.package_timeout_s)
        most = await run_in_threadpool(_room, caller, place, digest)
        size_bytes, found = await _received(request, partial, most)
        if found != digest:
            message = "what arrived has another SHA-256 than the path says"
            raise unfit(Fault(message, "digest", given=found, allowed=digest))
        return await run_in_threadpool(_keep, caller, place, digest, partial, size_bytes)
    finally:
        await run_in_threadpool(partial.unlink, missing_ok=True)


def _tidy(folder: FilePath, oldest_s: float) -> None:
    """Make the folder, or remove from it what a process that was killed has left there while it took a package in."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime < oldest_s:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def _room(caller: Caller, project: str, digest: str) -> float:
    """How many bytes more the project's quota lets it keep; a package that is kept for it already takes none."""
    service = caller.service
    most = quota_of(service.quotas(), "project", project).package_bytes
    if most is None or service.store.package(digest, frozenset((project,))) is not None:
        return math.inf
    return max(0, most - service.store.package_bytes(project))


async def _received(request: Request, partial: FilePath, most: float) -> tuple[int, str]:
    """(size, SHA-256) of the body, which is now in `partial`. ProblemError beyond `most` bytes, a quota's rest."""
    digest, size_bytes = hashlib.sha256(), 0
    with partial.open("xb") as stream:  # the page cache takes a chunk at once
        async for chunk in request.stream():
            digest.update(chunk)
            size_bytes += len(chunk)
            if size_bytes > most:
                detail = (
                    f"the project's quota has room for {most:.0f} bytes more of code packages; what no sweep is about "
                    "any more is removed after a week: delete sweeps, or ask an operator for more"
                )
                raise ProblemError(409, "over-quota", detail)
            stream.write(chunk)
    if not size_bytes:
        raise ProblemError(422, "invalid", "the body is empty; send the zip as it is")
    return size_bytes, digest.hexdigest()


def _keep(caller: Caller, project: str, digest: str, partial: FilePath, size_bytes: int) -> dict[str, Any]:
    """Unpack what arrived, to see whether it can be, and keep the zip for the project; each sweep unpacks its own."""
    tried = partial.with_suffix(".tried")
    try:
        unpack(partial, tried)
    finally:
        shutil.rmtree(tried, ignore_errors=True)
    keep(caller.service.root, digest, partial)  # before the record of it, which would keep it from being sent again
    caller.note(project, digest)
    return asdict(caller.service.store.add_package(project, digest, size_bytes))
