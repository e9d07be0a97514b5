"""Counts of what a server did, in the text format of Prometheus (version 0.0.4)."""

import threading
from collections import Counter

from .folders import Folders
from .jobs import DONE, QUEUED, RUNNING, STATES, Job, JobStore


class Metrics:
    """Counts requests and jobs since the server began."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._answers: Counter[int] = Counter()
        self._ended: Counter[str] = Counter()
        self._seconds = 0.0

    def answered(self, status: int) -> None:
        """Count an answer."""
        with self._guard:
            self._answers[status] += 1

    def ended(self, job: Job) -> None:
        """Count a job that is over."""
        with self._guard:
            self._ended[job.state] += 1
            if job.state == DONE and job.started and job.ended:
                self._seconds += job.ended - job.started

    def text(self, store: JobStore, folders: Folders) -> str:
        """Write them down."""
        with self._guard:
            answers, ended, seconds = dict(self._answers), dict(self._ended), self._seconds
        waiting = {state: store.count(state) for state in (QUEUED, RUNNING)}
        over = {state: ended.get(state, 0) for state in STATES if state not in waiting}
        parts = [
            _block("roundview_jobs", "gauge", "Jobs that are not over.", "state", waiting),
            _block("roundview_jobs_ended_total", "counter", "Jobs that are.", "state", over),
            _block("roundview_http_responses_total", "counter", "Answers.", "status", answers),
            _single("roundview_job_seconds_total", "counter", "Time of done jobs.", seconds),
            _single(
                "roundview_disk_bytes", "gauge", "Files of all jobs.", float(folders.used_bytes())
            ),
            _single(
                "roundview_disk_free_bytes", "gauge", "Left on disk.", float(folders.free_bytes())
            ),
        ]
        return "".join(parts)


def _block(
    name: str, kind: str, help: str, label: str, values: dict[str, int] | dict[int, int]
) -> str:
    lines = [f'{name}{{{label}="{key}"}} {values[key]}' for key in sorted(values, key=str)]  # pyright: ignore[reportArgumentType]  one of two kinds of key
    return "\n".join([f"# HELP {name} {help}", f"# TYPE {name} {kind}", *lines]) + "\n"


def _single(name: str, kind: str, help: str, value: float) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value:.10g}\n"
