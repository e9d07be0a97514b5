"""The HTTP API: each route says what it takes and gives, and asks the desk."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from pydantic import ValidationError
from starlette.responses import StreamingResponse

from .. import __version__
from ..recipes import RECIPES
from .desk import Desk, NoSpaceError
from .folders import MEDIA
from .helper import BusyError, ChoreError
from .jobs import ENDED, QUEUED, RUNNING, Job, QueueFullError
from .wire import (
    QUALITIES,
    HealthTold,
    JobSettings,
    JobsTold,
    JobTold,
    OptionsTold,
    Problem,
    times,
    told,
)

POLL_SECONDS = 0.2
"""How often a watched job is looked at; a look takes a tenth of a millisecond."""

_PING_SECONDS = 15.0  # Proxies close connections on which nothing comes for a minute.
_FORMATS = ["PNG", "JPEG", "WebP", "TIFF", "BMP", "GIF"]
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request is malformed, or for another host."},
    401: {"model": Problem, "description": "The token is missing."},
    403: {"model": Problem, "description": "A page of another origin asked."},
    413: {"model": Problem, "description": "The upload is too large."},
    422: {"model": Problem, "description": "The photo or a setting cannot be used."},
    429: {"model": Problem, "description": "Too much waits; see Retry-After."},
    507: {"model": Problem, "description": "The disk is full."},
}
_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such job or file."}
}

router = APIRouter(responses=_REFUSALS)

Photo = Annotated[UploadFile, File(description="PNG, JPEG, WebP, TIFF, BMP or GIF.")]
Mask = Annotated[
    UploadFile | None, File(description="Picture of the photo's shape, white on the object.")
]
SettingsText = Annotated[
    str, Form(max_length=4000, description='JSON of JobSettings, for instance {"seed": 7}.')
]


def desk_of(request: Request) -> Desk:
    """Give the desk of the application."""
    return request.app.state.desk


TheDesk = Annotated[Desk, Depends(desk_of)]


def job_of(id: str, desk: TheDesk) -> Job:
    """Look up the job that a path names.

    Raises:
        HTTPException: If there is none.
    """
    job = desk.store.get(id) if re.fullmatch("[0-9a-f]{16}", id) else None
    if job is None:
        raise HTTPException(404, "there is no such job; it may have been removed")
    return job


TheJob = Annotated[Job, Depends(job_of)]


@router.post("/api/jobs", status_code=202, response_model=JobTold, tags=["jobs"])
async def add_job(
    desk: TheDesk,
    response: Response,
    photo: Photo,
    mask: Mask = None,
    settings: SettingsText = "{}",
) -> JobTold:
    """Accept a photo; answers as soon as it has been read and waits for a worker."""
    wanted = settings_from(settings)
    if wanted.no_matte and mask is not None:
        raise HTTPException(422, "settings.no_matte and a mask exclude each other")
    try:
        painted = None if mask is None else mask.file
        job = await desk.take_in(photo.file, painted, wanted.model_dump())
    except (QueueFullError, BusyError, NoSpaceError, ChoreError) as error:
        raise refused(error, desk) from None
    response.headers["location"] = f"/api/jobs/{job.id}"
    return told(job, desk.folders.of(job.id), desk.store)


@router.post(
    "/api/jobs/{id}/again",
    status_code=202,
    response_model=JobTold,
    responses=_MISSING,
    tags=["jobs"],
)
async def make_again(
    desk: TheDesk, job: TheJob, response: Response, settings: SettingsText = "{}"
) -> JobTold:
    """Accept a job with the photo and the painted matte of another, with other settings."""
    wanted = settings_from(settings)
    try:
        again = await desk.again(job, wanted.model_dump())
    except (QueueFullError, NoSpaceError) as error:
        raise refused(error, desk) from None
    except FileNotFoundError:
        raise HTTPException(404, "the photo of that job was removed") from None
    response.headers["location"] = f"/api/jobs/{again.id}"
    return told(again, desk.folders.of(again.id), desk.store)


@router.get("/api/jobs", response_model=JobsTold, tags=["jobs"])
def list_jobs(
    desk: TheDesk,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> JobsTold:
    """List jobs, newest first."""
    jobs = desk.store.latest(limit + 1, before=before)
    shown = [told(job, desk.folders.of(job.id), desk.store) for job in jobs[:limit]]
    more = jobs[limit - 1].number if len(jobs) > limit else None
    return JobsTold(jobs=shown, next_before=more)


@router.get("/api/jobs/{id}", response_model=JobTold, responses=_MISSING, tags=["jobs"])
def get_job(desk: TheDesk, job: TheJob) -> JobTold:
    """Say where a job stands."""
    return told(job, desk.folders.of(job.id), desk.store)


@router.delete(
    "/api/jobs/{id}",
    response_model=None,
    tags=["jobs"],
    responses={
        **_MISSING,
        200: {"model": JobTold, "description": "It was not over and is cancelled."},
        204: {"description": "It was over and is removed with its files."},
    },
)
def delete_job(desk: TheDesk, job: TheJob) -> Response:
    """Cancel a job that waits or runs; remove one that is over, with all its files."""
    cancelled = desk.cancel_or_remove(job)
    if cancelled is None:
        return Response(status_code=204)
    shown = told(cancelled, desk.folders.of(job.id), desk.store)
    return JSONResponse(shown.model_dump(mode="json"))


@router.get(
    "/api/jobs/{id}/events",
    response_class=StreamingResponse,
    tags=["jobs"],
    responses={
        **_MISSING,
        200: {
            "description": "Server-sent events named `job`, each a JobTold, until it is over.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def watch_job(desk: TheDesk, job: TheJob) -> StreamingResponse:
    """Follow a job."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(changes(desk, job.id), media_type="text/event-stream", headers=headers)


@router.get(
    "/api/jobs/{id}/photo",
    response_class=FileResponse,
    tags=["files"],
    responses={**_MISSING, 200: {"content": {"image/jpeg": {}}, "description": "A small JPEG."}},
)
def get_photo(desk: TheDesk, job: TheJob) -> FileResponse:
    """Give the photograph, small."""
    return _sent(desk.folders.of(job.id).thumbnail)


@router.get(
    "/api/jobs/{id}/preview",
    response_class=FileResponse,
    tags=["files"],
    responses={**_MISSING, 200: {"content": {"image/png": {}}, "description": "A picture."}},
)
def get_preview(desk: TheDesk, job: TheJob) -> FileResponse:
    """Give the newest picture of the result, or of how far it has come."""
    return _sent(desk.folders.of(job.id).live_picture())


@router.get(
    "/api/jobs/{id}/files/{name}",
    response_class=FileResponse,
    tags=["files"],
    responses={
        **_MISSING,
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
    },
)
async def get_file(desk: TheDesk, job: TheJob, name: str) -> FileResponse:
    """Give a file of a job that is done, in any format; see `files` of the job for their names."""
    if job.state != "done":
        raise HTTPException(404, f"the job is {job.state}: it has no files")
    try:
        path = await desk.file(job, name)
    except (BusyError, ChoreError) as error:
        raise refused(error, desk) from None
    return _sent(path, download=True)


@router.post(
    "/api/matte",
    response_class=Response,
    tags=["files"],
    responses={200: {"content": {"image/png": {}}, "description": "Grey, white on the object."}},
)
async def cut_out(desk: TheDesk, photo: Photo) -> Response:
    """Cut out the subject of a photo, to be looked at and corrected before a job is sent."""
    try:
        picture = await desk.matte(photo.file)
    except (BusyError, ChoreError) as error:
        raise refused(error, desk) from None
    return Response(picture, media_type="image/png", headers={"cache-control": "no-store"})


@router.get("/api/options", response_model=OptionsTold, tags=["server"])
def get_options(desk: TheDesk) -> OptionsTold:
    """Say what this server offers."""
    return OptionsTold(
        version=__version__,
        recipes=list(RECIPES),
        qualities=list(QUALITIES),
        upload_bytes=desk.limits.upload_bytes,
        formats=_FORMATS,
        took=times(desk.store),
    )


@router.get(
    "/health", response_model=HealthTold, tags=["server"], responses={503: {"model": HealthTold}}
)
def get_health(desk: TheDesk, response: Response) -> HealthTold:
    """Say how the server is; answers 503 when no jobs are being taken."""
    well = desk.well()
    response.status_code = 200 if well else 503
    return HealthTold(
        status="ok" if well else "broken",
        version=__version__,
        queued=desk.store.count(QUEUED),
        running=desk.store.count(RUNNING),
    )


@router.get("/metrics", response_class=PlainTextResponse, tags=["server"])
def get_metrics(desk: TheDesk) -> PlainTextResponse:
    """Give counts in the text format of Prometheus."""
    text = desk.metrics.text(desk.store, desk.folders)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def settings_from(text: str) -> JobSettings:
    """Read the settings of a job.

    Raises:
        HTTPException: If one cannot be used; names it and says what would do.
    """
    try:
        return JobSettings.model_validate_json(text)
    except ValidationError as error:
        raise HTTPException(422, plainly(error.errors()[0], "settings")) from None


def plainly(error: Any, start: str = "") -> str:  # noqa: ANN401  pydantic's own dict
    """Say in one line what is wrong with a value, without repeating the value."""
    where = ".".join(str(part)[:40] for part in (start, *error["loc"]) if part != "")
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {what[:1].lower()}{what[1:]}"


def refused(error: ValueError, desk: Desk) -> HTTPException:
    """Turn a refusal of the desk into an answer."""
    if isinstance(error, QueueFullError):
        headers = {"retry-after": str(desk.retry_after())}
        return HTTPException(429, str(error), headers=headers)
    if isinstance(error, BusyError):
        return HTTPException(429, str(error), headers={"retry-after": "5"})
    return HTTPException(507 if isinstance(error, NoSpaceError) else 422, str(error))


async def changes(desk: Desk, id: str) -> AsyncIterator[str]:
    """Tell where a job stands whenever that changes, until it is over or gone."""
    last, silent = "", 0.0
    while not desk.stopping.is_set():
        job = desk.store.get(id)
        if job is None:
            yield "event: gone\ndata: {}\n\n"
            return
        now = told(job, desk.folders.of(id), desk.store).model_dump_json()
        if now != last:
            last, silent = now, 0.0
            yield f"event: job\ndata: {now}\n\n"
        elif silent > _PING_SECONDS:
            silent = 0.0
            yield ": still here\n\n"
        if job.state in ENDED:
            return
        await asyncio.sleep(POLL_SECONDS)
        silent += POLL_SECONDS


def _sent(path: Path | None, *, download: bool = False) -> FileResponse:
    if path is None or not path.is_file():
        raise HTTPException(404, "there is no such file")
    name = f"roundview-{path.name}" if download else None
    headers = {"cache-control": "private, max-age=0, must-revalidate"}
    media = MEDIA.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media, filename=name, headers=headers)
