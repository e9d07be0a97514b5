"""The desk where jobs are taken in, looked after and given out: everything but HTTP."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Protocol, runtime_checkable

from .folders import Folders, JobFolder
from .helper import ChoreError, Helper
from .jobs import QUEUED, Job, JobStore, QueueFullError, new_id
from .limits import Limits
from .metrics import Metrics
from .workers import Command, Workers, make_command


@runtime_checkable
class Readable(Protocol):
    """A file that was uploaded, open."""

    def read(self, count: int, /) -> bytes:
        """Give the next bytes, none at the end."""
        ...


class NoSpaceError(ValueError):
    """The disk is too full to take a job."""


class Desk:
    """Holds the parts of a server together.

    Args:
        root: Folder of the database and of all files.
        limits: What is taken on.
        command: How to run a job, for tests; else `roundview make`.
        helper: Who checks pictures, for tests.

    Attributes:
        store: The jobs.
        folders: Their files.
        limits: As given.
        metrics: What was counted.
        helper: Checks pictures, cuts them out, converts assets.
        workers: Run the jobs.
        stopping: Set when the server ends: those who watch a job are let go.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits,
        *,
        command: Command | None = None,
        helper: Helper | None = None,
    ) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.store = JobStore(root)
        self.folders = Folders(root)
        self.helper = helper or Helper(seconds=limits.chore_seconds, waiting=limits.chores)
        self.workers = Workers(
            self.store,
            self.folders,
            limits,
            command=command or make_command(limits),
            staged=self._draw,
            ended=self._after,
        )
        self.stopping = threading.Event()
        self._moving = threading.Lock()  # A folder must not be tidied away before its job is there.

    def start(self) -> None:
        """Take up what an earlier server left, and begin."""
        self.store.recover(attempts=self.limits.attempts)
        self._tidy()
        self.workers.start()

    def stop(self) -> None:
        """Stop all processes; jobs that run wait for the next server."""
        self.stopping.set()
        self.workers.stop()
        self.helper.stop()
        self.store.close()

    async def take_in(
        self, photo: Readable, mask: Readable | None, settings: dict[str, object]
    ) -> Job:
        """Accept a job, if its photo can be read and there is room for it.

        Raises:
            QueueFullError: If enough jobs wait.
            NoSpaceError: If the disk is too full.
            ChoreError: If the photo or the mask cannot be used.
            BusyError: If too many photos are being read.
        """
        self._check_room()
        id = new_id()
        folder = self.folders.incoming(id)
        try:
            await asyncio.to_thread(_copy, photo, folder.photo)
            if mask is not None:
                await asyncio.to_thread(_copy, mask, folder.mask)
            painted = None if mask is None else str(folder.mask)
            await self._done(folder, "check", str(folder.photo), painted, str(folder.thumbnail))
            return await asyncio.to_thread(self._accept, id, settings)
        finally:
            self.folders.remove(folder)

    async def again(self, job: Job, settings: dict[str, object]) -> Job:
        """Accept a job with the photo of another, and with its mask if it had one.

        Raises:
            QueueFullError: If enough jobs wait.
            NoSpaceError: If the disk is too full.
            FileNotFoundError: If the other job was removed meanwhile.
        """
        self._check_room()
        id, there = new_id(), self.folders.of(job.id)
        folder = self.folders.incoming(id)
        try:
            wanted = {there.photo: folder.photo, there.thumbnail: folder.thumbnail}
            if there.mask.is_file() and not settings.get("no_matte"):
                wanted[there.mask] = folder.mask
            for source, target in wanted.items():
                await asyncio.to_thread(shutil.copyfile, source, target)
            return await asyncio.to_thread(self._accept, id, settings)
        finally:
            self.folders.remove(folder)

    async def matte(self, photo: Readable) -> bytes:
        """Cut out the subject of a photo; gives a grey PNG.

        Raises:
            ChoreError: If the photo cannot be used, or shows no object.
            BusyError: If too many photos are being read.
        """
        folder = self.folders.incoming(new_id())
        try:
            await asyncio.to_thread(_copy, photo, folder.photo)
            picture = folder.path / "matte.png"
            await self._done(folder, "matte", str(folder.photo), str(picture))
            return await asyncio.to_thread(picture.read_bytes)
        finally:
            self.folders.remove(folder)

    async def file(self, job: Job, name: str) -> Path | None:
        """Find a file of a job, making it first if need be; None if there is none of that name.

        Raises:
            ChoreError: If the asset cannot be written in that format.
            BusyError: If too many files are being made.
        """
        folder = self.folders.of(job.id)
        if name not in folder.names():
            return None
        path = folder.file(name)
        if not path.is_file():
            await self._done(folder, "export", str(folder.source(name)), str(path))
        return path

    def cancel_or_remove(self, job: Job) -> Job | None:
        """Cancel a job that is not over and give it; remove one that is and give None."""
        if self.workers.cancel(job.id):
            return self.store.get(job.id)
        with self._moving:
            if self.store.forget(job.id):
                self.folders.remove(self.folders.of(job.id))
        return None

    def retry_after(self) -> int:
        """Guess in how many seconds the next waiting job begins."""
        seconds = self.store.typical_seconds() / self.limits.workers
        return int(min(max(seconds, 1.0), 3600.0))

    def well(self) -> bool:
        """Tell whether jobs are being taken."""
        return self.workers.alive() and not self.stopping.is_set()

    def _check_room(self) -> None:
        """Refuse before the upload is read again what would be refused after."""
        if self.store.count(QUEUED) >= self.limits.queued:
            raise QueueFullError(f"{self.limits.queued} jobs are waiting already; try again later")
        if self.folders.free_bytes() < self.limits.free_bytes:
            raise NoSpaceError("the server's disk is nearly full; its keeper must make room")

    def _accept(self, id: str, settings: dict[str, object]) -> Job:
        with self._moving:
            self.folders.accept(id)
            try:
                job = self.store.add(id, settings, queued_at_most=self.limits.queued)
            except QueueFullError:
                self.folders.remove(self.folders.of(id))
                raise
        self.workers.notify()
        return job

    def _draw(self, job: Job) -> None:
        """Have what a stage gave drawn for those who watch."""
        folder = self.folders.of(job.id)
        self.helper.offer("picture", str(folder.output), str(folder.stage_picture))

    def _after(self, job: Job) -> None:
        """Look after a job that ended, or that waits again."""
        if job.ended is not None:
            self.metrics.ended(job)
            self._tidy()

    def _tidy(self) -> None:
        with self._moving:
            self.folders.tidy(self.store, disk_bytes=self.limits.disk_bytes)

    async def _done(self, folder: JobFolder, chore: str, *arguments: str | None) -> None:
        """Have a chore done; its errors name no folder of the server."""
        try:
            await self.helper.ask(chore, *arguments)
        except ChoreError as error:
            raise ChoreError(str(error).replace(f"{folder.path}/", "")) from None


def _copy(source: Readable, target: Path) -> None:
    with target.open("wb") as file:
        while part := source.read(1 << 20):
            file.write(part)
