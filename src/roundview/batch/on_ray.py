"""Workers on a Ray cluster: actors that hold the models, wherever there is a share for them.

Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", 2018. Photos and output
lie on a file system that all nodes share; nothing but paths travels. An actor whose node dies is
replaced by another as soon as the cluster has a place for it.
"""

from collections import Counter, deque
from importlib import import_module
from typing import Any

from .tasks import MOST_TASKS, Build, BuildError, Ended, unbuilt, use_threads

_MOST_DEATHS = 10  # of actors in a row that never got to work; nodes that come and go cost some


class RayEngine:
    """An `Engine` of Ray actors.

    Args:
        build: Called once in each actor; its module must be installed on every node.
        count: Actors at a time; None takes as many as the cluster has shares for.
        threads: Cores that each takes.
        gpus: GPUs that each takes; may be a fraction.
        address: Of the cluster, as for `ray.init`; None starts one on this machine.

    Raises:
        ValueError: If Ray is not installed, or the cluster cannot be reached or has no share.
    """

    def __init__(
        self,
        build: Build,
        *,
        count: int | None = None,
        threads: int = 1,
        gpus: float = 0.0,
        address: str | None = None,
    ) -> None:
        self._ray = _connected(address)
        self._count = count or _shares(self._ray.cluster_resources(), threads, gpus)
        options = {"num_cpus": threads, "num_gpus": gpus, "max_restarts": 0}
        self._actor: Any = self._ray.remote(**options)(_Holder)
        self._arguments = (build, threads)
        self._queue: deque[Any] = deque()
        self._asked: dict[Any, tuple[Any, Any]] = {}
        self._idle: list[Any] = []
        self._done: Counter[Any] = Counter()
        self._deaths = 0

    def give(self, task: Any) -> None:  # noqa: ANN401  what the work can do
        """Put a task at the end of the queue."""
        self._queue.append(task)

    def wait(self) -> list[Ended]:
        """Wait until at least one task has ended; an empty list when there are none left."""
        while self._queue or any(task is not None for _, task in self._asked.values()):
            self._staff()
            ended = self._ended()
            if ended:
                return ended
        return []

    def close(self) -> None:
        """End the actors; a cluster that was there before stays."""
        for actor in [*self._idle, *(actor for actor, _ in self._asked.values())]:
            self._ray.kill(actor)
        self._idle, self._asked = [], {}

    def _staff(self) -> None:
        """Start actors that are wanted, and give tasks to those that are free."""
        while self._idle and self._queue:
            actor, task = self._idle.pop(), self._queue.popleft()
            self._asked[actor.do.remote(task)] = (actor, task)
        # An actor has no task until it says that it is ready: none waits for one without a node.
        coming = sum(task is None for _, task in self._asked.values())
        wanted = min(self._count - len(self._asked) - len(self._idle), len(self._queue) - coming)
        for _ in range(wanted):
            actor = self._actor.remote(*self._arguments)
            self._asked[actor.ready.remote()] = (actor, None)

    def _ended(self) -> list[Ended]:
        """Hear from one actor or more; notice those whose process or node died."""
        ended = []
        finished, _ = self._ray.wait(list(self._asked), num_returns=1)
        for reference in finished:
            actor, task = self._asked.pop(reference)
            try:
                said = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                ended += self._lost(task, error)
                continue
            if isinstance(said, BuildError):
                raise said
            self._deaths = 0
            if isinstance(said, Ended):
                ended.append(said)
                self._done[actor] += 1
            if self._done[actor] == MOST_TASKS:
                self._ray.kill(actor)
            else:
                self._idle.append(actor)
        return ended

    def _lost(self, task: Any, error: Exception) -> list[Ended]:  # noqa: ANN401  as given
        reason = f"its worker was lost ({type(error).__name__})"
        if task is not None:
            return [Ended(task, reason)]
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS:
            raise BuildError(f"workers are lost before they can begin: {error}")
        return []


class _Holder:
    """What an actor is: work, built once; a failure to build it is kept until it is asked for."""

    def __init__(self, build: Build, threads: int) -> None:
        self._error: BuildError | None = None
        try:
            use_threads(threads)
            self._work = build()
        except Exception as error:  # Sent on: only the other side can tell the user.
            self._error = unbuilt(error)

    def ready(self) -> BuildError | None:
        """Say that the work is built, or why it is not."""
        return self._error

    def do(self, task: Any) -> Ended:  # noqa: ANN401  what the work can do
        """Do a task."""
        return self._work(task)


def _connected(address: str | None) -> Any:  # noqa: ANN401  a module that may not be installed
    try:
        ray: Any = import_module("ray")  # The extra `batch`.
    except ImportError as error:
        raise ValueError("the engine ray needs Ray: pip install 'roundview[batch]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"no Ray cluster at {address!r}: {reason}") from error
    return ray


def _shares(resources: dict[str, float], threads: int, gpus: float) -> int:
    """Count the workers that fit into a cluster."""
    fit = resources.get("CPU", 0.0) / threads
    if gpus:
        fit = min(fit, resources.get("GPU", 0.0) / gpus)
    if fit < 1:
        raise ValueError(
            f"the Ray cluster has no share of {threads} cores and {gpus:g} GPUs for a worker"
        )
    return int(fit)
