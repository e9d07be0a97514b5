"""Jobs and where they stand, in a database that outlives the server.

SQLite in write-ahead mode: readers never wait for the writer, and a killed server loses nothing
that it had said was accepted. Every change of state names the state it comes from, so that of two
threads that want to change it (a job ends while it is cancelled) only one does.
"""

import json
import secrets
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)
ENDED = (DONE, FAILED, CANCELLED)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, state TEXT NOT NULL,
  settings TEXT NOT NULL, made REAL NOT NULL, started REAL, ended REAL,
  stage TEXT, fraction REAL NOT NULL DEFAULT 0, stages TEXT NOT NULL DEFAULT '[]',
  reason TEXT, attempts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
"""


class QueueFullError(ValueError):
    """As many jobs wait as the server keeps."""


@dataclass(frozen=True)
class Job:
    """One request to make an asset.

    Attributes:
        id: Sixteen hex digits from the system's random source: who does not know it cannot ask.
        state: One of `STATES`.
        settings: As `wire.JobSettings` gives them.
        made: When it was accepted, seconds of Unix time; `started` and `ended` likewise.
        started: When a worker began with it last.
        ended: When it came to one of `ENDED`.
        stage: What runs now.
        fraction: How much of that stage is done, 0 to 1.
        stages: Name and seconds of those that are done.
        reason: Why it failed, in one line.
        attempts: How often a worker began with it since it last came further.
        number: Grows with every job.
    """

    id: str
    state: str
    settings: dict[str, Any]
    made: float
    started: float | None = None
    ended: float | None = None
    stage: str | None = None
    fraction: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    attempts: int = 0
    number: int = 0


class JobStore:
    """Keeps jobs in a database file; may be shared by threads.

    Args:
        folder: Where `jobs.sqlite` lies; made where it is missing.

    Raises:
        ValueError: If another server uses the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = threading.RLock()
        self._held = _hold(folder / "lock.sqlite")
        self._database = sqlite3.connect(
            folder / "jobs.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the files."""
        with self._guard:
            self._database.close()
            self._held.close()

    def add(self, id: str, settings: dict[str, Any], *, queued_at_most: int) -> Job:
        """Put a job into the queue.

        Raises:
            QueueFullError: If as many wait already.
        """
        with self._guard:
            if self.count(QUEUED) >= queued_at_most:
                raise QueueFullError(f"{queued_at_most} jobs are waiting already; try again later")
            self._database.execute(
                "INSERT INTO jobs (id, state, settings, made) VALUES (?, ?, ?, ?)",
                (id, QUEUED, json.dumps(settings), time.time()),
            )
            added = self.get(id)
        assert added is not None
        return added

    def get(self, id: str) -> Job | None:
        """Look up a job; None if there is none of that id."""
        found = self._rows("SELECT * FROM jobs WHERE id = ?", id)
        return found[0] if found else None

    def latest(self, count: int, *, before: int | None = None) -> list[Job]:
        """List jobs, newest first, from those numbered below `before`."""
        top = 2**62 if before is None else before
        query = "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?"
        return self._rows(query, top, count)

    def ended(self) -> list[Job]:
        """List the jobs that are over, the oldest first."""
        query = "SELECT * FROM jobs WHERE state IN (?, ?, ?) ORDER BY ended, number"
        return self._rows(query, *ENDED)

    def count(self, state: str) -> int:
        """Count the jobs in a state."""
        return self._number("SELECT COUNT(*) FROM jobs WHERE state = ?", state)

    def ahead_of(self, job: Job) -> int:
        """Count the waiting jobs that come before a waiting one."""
        query = "SELECT COUNT(*) FROM jobs WHERE state = ? AND number < ?"
        return self._number(query, QUEUED, job.number)

    def typical_seconds(self) -> float:
        """Give the mean time of the last twenty jobs that were done; 60 before there are any."""
        jobs = self._rows("SELECT * FROM jobs WHERE state = ? ORDER BY number DESC LIMIT 20", DONE)
        took = [job.ended - job.started for job in jobs if job.ended and job.started]
        return sum(took) / len(took) if took else 60.0

    def last_like(self, settings: dict[str, Any]) -> Job | None:
        """Give the last job that was done with the same recipe and quality: how this one may go."""
        found = self._rows(
            "SELECT * FROM jobs WHERE state = ? AND json_extract(settings, '$.recipe') = ?"
            " AND json_extract(settings, '$.quality') = ? ORDER BY number DESC LIMIT 1",
            *(DONE, settings.get("recipe"), settings.get("quality")),
        )
        return found[0] if found else None

    def take(self) -> Job | None:
        """Give the oldest waiting job to a worker."""
        with self._guard:
            query = "SELECT * FROM jobs WHERE state = ? ORDER BY number LIMIT 1"
            waiting = self._rows(query, QUEUED)
            if not waiting:
                return None
            self._database.execute(
                "UPDATE jobs SET state = ?, started = ?, attempts = attempts + 1, stages = '[]',"
                " stage = NULL, fraction = 0 WHERE id = ?",
                (RUNNING, time.time(), waiting[0].id),
            )
            return self.get(waiting[0].id)

    def progress(
        self, id: str, stage: str | None, fraction: float, stages: list[dict[str, Any]]
    ) -> None:
        """Write down how far a running job has come; a stage that is new redeems its attempts."""
        further = any(not stage.get("resumed") for stage in stages)
        self._change(
            "UPDATE jobs SET stage = ?, fraction = ?, stages = ?,"
            " attempts = CASE WHEN ? THEN 1 ELSE attempts END WHERE id = ? AND state = ?",
            *(stage, fraction, json.dumps(stages), further, id, RUNNING),
        )

    def end(self, id: str, state: str, *, reason: str | None = None) -> bool:
        """End a job that waits or runs; tell whether it was one."""
        return self._change(
            "UPDATE jobs SET state = ?, reason = ?, ended = ?, stage = NULL"
            " WHERE id = ? AND state IN (?, ?)",
            *(state, reason, time.time(), id, QUEUED, RUNNING),
        )

    def put_back(self, id: str) -> None:
        """Let a running job wait again, as if it had never begun: its worker was asked to stop."""
        self._change(
            "UPDATE jobs SET state = ?, attempts = attempts - 1 WHERE id = ? AND state = ?",
            *(QUEUED, id, RUNNING),
        )

    def recover(self, *, attempts: int) -> None:
        """Let jobs wait again that ran when the last server died; give up what kept dying."""
        reason = f"it was begun {attempts} times and came no further before the server ended"
        with self._guard:
            self._change(
                "UPDATE jobs SET state = ?, reason = ?, ended = ?"
                " WHERE state = ? AND attempts >= ?",
                *(FAILED, reason, time.time(), RUNNING, attempts),
            )
            self._change("UPDATE jobs SET state = ? WHERE state = ?", QUEUED, RUNNING)

    def forget(self, id: str) -> bool:
        """Remove a job that is over; tell whether there was one."""
        return self._change("DELETE FROM jobs WHERE id = ? AND state IN (?, ?, ?)", id, *ENDED)

    def _change(self, statement: str, *values: object) -> bool:
        with self._guard:
            return self._database.execute(statement, values).rowcount > 0

    def _number(self, query: str, *values: object) -> int:
        with self._guard:
            return int(self._database.execute(query, values).fetchone()[0])

    def _rows(self, query: str, *values: object) -> list[Job]:
        with self._guard:
            rows = self._database.execute(query, values).fetchall()
        return [_job(dict(row)) for row in rows]


def new_id() -> str:
    """Draw an id that nobody can guess."""
    return secrets.token_hex(8)


def _job(row: dict[str, Any]) -> Job:
    settings, stages = json.loads(row.pop("settings")), json.loads(row.pop("stages"))
    return Job(**row, settings=settings, stages=stages)


def _hold(path: Path) -> sqlite3.Connection:
    """Lock a file for as long as this process lives, on any system."""
    held = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=0.2)
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        held.close()
        raise ValueError(
            f"{path.parent} is in use by another server; give this one another folder"
        ) from error
    return held
