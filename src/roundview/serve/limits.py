"""What a server takes on, and what it refuses."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; the defaults are chosen by us for one machine with a few users.

    Attributes:
        upload_bytes: Of one request with a photo and a mask.
        queued: Jobs that wait; more are refused until one has begun.
        workers: Jobs that run at once.
        threads: CPU threads of each.
        job_seconds: A job that takes longer is ended.
        attempts: Starts of a job that came no further, before it is given up: it may end us.
        disk_bytes: Of all jobs; the oldest finished ones are removed to stay below it.
        free_bytes: Of the disk; no job is taken when less is free.
        chore_seconds: For checking, cutting out or converting one file.
        chores: Checks and conversions that wait; more are refused.
    """

    upload_bytes: int = 50_000_000
    queued: int = 32
    workers: int = 1
    threads: int = 0
    job_seconds: float = 4 * 3600.0
    attempts: int = 3
    disk_bytes: int = 20_000_000_000
    free_bytes: int = 500_000_000
    chore_seconds: float = 120.0
    chores: int = 96

    def __post_init__(self) -> None:
        """Refuse a server that could do nothing, and share the cores among the workers."""
        for name in ("upload_bytes", "queued", "workers", "job_seconds", "disk_bytes", "chores"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.threads < 1:
            object.__setattr__(self, "threads", max(1, (os.cpu_count() or 1) // self.workers))
