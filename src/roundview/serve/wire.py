"""What goes over the wire: the settings that a client may send, and what it is told."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..recipes import RECIPES
from .folders import JobFolder
from .jobs import DONE, QUEUED, RUNNING, Job, JobStore

QUALITIES = ("draft", "standard", "high")
"""Names of qualities, fastest first; every recipe has settings for each."""


class JobSettings(BaseModel):
    """How to make the asset; the defaults are those of `roundview make`."""

    model_config = ConfigDict(extra="forbid")

    recipe: str = Field(default="im3d", description=f"The method: {', '.join(RECIPES)}.")
    quality: Literal["draft", "standard", "high"] = Field(
        default="standard", description="Time for detail."
    )
    seed: int = Field(
        default=0, ge=0, le=2**53 - 1, description="The same seed gives the same asset."
    )
    faces: int = Field(default=20_000, ge=16, le=1_000_000, description="Triangles at most.")
    texture_size: int = Field(
        default=1024, ge=64, le=4096, description="Side of the texture, pixels."
    )
    watertight: bool = Field(default=False, description="Close the mesh into one printable shell.")
    no_matte: bool = Field(default=False, description="The whole picture is the object.")
    photo_elevation_deg: float | None = Field(
        default=None,
        ge=-80,
        le=80,
        description="Elevation the photo was taken from; estimated if null.",
    )

    @field_validator("recipe")
    @classmethod
    def _known(cls, recipe: str) -> str:
        if recipe not in RECIPES:
            raise ValueError(f"{recipe[:40]!r} is unknown; there are: {', '.join(RECIPES)}")
        return recipe


class Problem(BaseModel):
    """What went wrong."""

    error: str = Field(description="One line for a person.")


class StageTold(BaseModel):
    """A stage that is done."""

    name: str
    seconds: float | None = None
    resumed: bool | None = None


class FileTold(BaseModel):
    """A file that can be had."""

    name: str
    url: str
    bytes: int | None = Field(
        default=None, description="Null for what is made when it is asked for."
    )


class JobTold(BaseModel):
    """A job and where it stands."""

    id: str
    number: int = Field(description="Grows with every job; `before` of the list takes it.")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str | None = Field(default=None, description="What runs now.")
    fraction: float = Field(description="How much of that stage is done, 0 to 1.")
    stages: list[StageTold] = Field(description="Those that are done.")
    expected: list[StageTold] = Field(
        default=[],
        description="Stages of the last job with this recipe and quality, until this one is over.",
    )
    ahead: int = Field(default=0, description="Jobs that come first while this one waits.")
    reason: str | None = Field(default=None, description="Why it failed.")
    made: float = Field(description="When it was accepted, seconds of Unix time.")
    started: float | None = None
    ended: float | None = None
    settings: JobSettings
    photo: str = Field(description="Where a small JPEG of the photograph is.")
    preview: str | None = Field(
        default=None, description="Where the newest picture of the result is."
    )
    files: list[FileTold] = Field(description="What can be had of a job that is done.")


class TookTold(BaseModel):
    """How long a job took here."""

    recipe: str
    quality: str
    seconds: float


class JobsTold(BaseModel):
    """A page of the list of jobs, newest first."""

    jobs: list[JobTold]
    next_before: int | None = Field(
        default=None, description="`before` of the next page, if there is one."
    )


class OptionsTold(BaseModel):
    """What this server offers."""

    version: str
    recipes: list[str]
    qualities: list[str]
    upload_bytes: int
    formats: list[str] = Field(description="Of photographs.")
    took: list[TookTold] = Field(
        description="What the last job of each recipe and quality took on this server."
    )


class HealthTold(BaseModel):
    """How the server is."""

    status: Literal["ok", "broken"]
    version: str
    queued: int
    running: int


def told(job: Job, folder: JobFolder, store: JobStore) -> JobTold:
    """Say where a job stands."""
    at = f"/api/jobs/{job.id}"
    picture = folder.live_picture()
    like = store.last_like(job.settings) if job.state in (QUEUED, RUNNING) else None
    facts: dict[str, Any] = {
        "ahead": store.ahead_of(job) if job.state == QUEUED else 0,
        "expected": like.stages if like is not None else [],
        "photo": f"{at}/photo",
        "preview": None if picture is None else f"{at}/preview?v={_moment(picture)}",
        "files": _files(at, folder) if job.state == DONE else [],
    }
    kept = {key: value for key, value in vars(job).items() if key != "attempts"}
    return JobTold(**kept, **facts)


def times(store: JobStore) -> list[TookTold]:
    """Say what the last job of each recipe and quality took."""
    found = []
    for recipe in RECIPES:
        for quality in QUALITIES:
            job = store.last_like({"recipe": recipe, "quality": quality})
            if job is not None and job.started and job.ended:
                seconds = job.ended - job.started
                found.append(TookTold(recipe=recipe, quality=quality, seconds=seconds))
    return found


def _files(at: str, folder: JobFolder) -> list[FileTold]:
    found = []
    for name in folder.names():
        path = folder.file(name)
        size = path.stat().st_size if path.is_file() else None
        found.append(FileTold(name=name, url=f"{at}/files/{name}", bytes=size))
    return found


def _moment(picture: Any) -> int:  # noqa: ANN401  a path
    """Change whenever the picture does, so that no cache shows the last one."""
    try:
        return picture.stat().st_mtime_ns // 1_000_000
    except OSError:  # It is being replaced.
        return 0
