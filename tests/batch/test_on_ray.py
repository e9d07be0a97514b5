"""Claims about the Ray engine, on a cluster of two nodes on this machine; skipped without Ray."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_work import Copying, not_installed, photos_in
from fakes import block
from job_measures import Heights

from roundview.batch.manifest import Entry, Manifest
from roundview.batch.on_ray import RayEngine
from roundview.batch.run import run_batch
from roundview.batch.tasks import BuildError, Engine
from roundview.data.objects import find_objects
from roundview.data.shards import ShardSettings, render_shards
from roundview.evaluate.jobs import Workers, measure_in_processes
from roundview.evaluate.keeping import measure_each
from roundview.export.glb import save_glb

try:
    from importlib import import_module

    ray: Any = import_module("ray")
    Cluster: Any = import_module("ray.cluster_utils").Cluster
except ImportError:
    ray = None

needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed (the extra `batch`)")
# Ray leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a core each; the first holds the books and does not work."""
    # Ray gives workers the least priority: beside other programs they got 2 s in 5 minutes.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    paths = os.pathsep.join(
        [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    )
    ray.init(
        address=nodes.address,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@needs_ray
@pytest.mark.slow
def test_every_photo_is_done_once_though_a_node_is_killed(
    cluster: Any,  # noqa: ANN401  of a module that may not be installed
    tmp_path: Path,
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    names = [f"p{at:02d}" for at in range(16)]
    tasks = photos_in(tmp_path, **dict.fromkeys(names, "fine"))
    ended: list[Entry] = []

    def heard(entry: Entry, left: int) -> None:
        ended.append(entry)
        while len(ended) == 1 and (tmp_path / "log").read_text().count("built") < 2:
            time.sleep(0.1)  # Until both nodes have their worker.
        if left == 8:
            cluster.remove_node(nodes[1], allow_graceful=False)

    def engine() -> Engine:
        return RayEngine(Copying(tmp_path / "log", seconds=0.4), count=2)

    summary = run_batch(tasks, Manifest(tmp_path / "out", "asked"), engine, heard=heard)
    assert not summary.failed
    assert sorted(entry.folder for entry in ended) == names
    log = (tmp_path / "log").read_text().splitlines()
    assert [log.count(f"ended {name}.png") for name in names] == [1] * len(names)
    # One was lost with its node and given to the other.
    assert sum(entry.tries for entry in ended) == len(names) + 1
    again = run_batch(tasks, Manifest(tmp_path / "out", "asked"), engine)
    assert again.skipped == len(names)


@needs_ray
@pytest.mark.slow
def test_crashes_cost_their_photo_and_missing_models_stop_everything(
    cluster: Any,  # noqa: ANN401  of a module that may not be installed
    tmp_path: Path,
) -> None:
    cluster.add_node(num_cpus=1)
    tasks = photos_in(tmp_path, a="fine", b="deadly", c="bad", d="fine")

    def engine() -> Engine:
        return RayEngine(Copying(tmp_path / "log"))

    summary = run_batch(tasks, Manifest(tmp_path / "out", "asked"), engine)
    assert [entry.state for entry in summary.entries] == ["done", "failed", "failed", "done"]
    assert "its worker was lost" in summary.entries[1].reason
    with pytest.raises(BuildError, match="not installed") as caught:
        run_batch(tasks, Manifest(tmp_path / "x", "asked"), lambda: RayEngine(not_installed))
    assert caught.value.missing
    with pytest.raises(ValueError, match="no share of 9 cores"):
        RayEngine(not_installed, threads=9)


@needs_ray
@pytest.mark.slow
def test_marks_and_shards_are_those_of_one_process(
    cluster: Any,  # noqa: ANN401  of a module that may not be installed
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.add_node(num_cpus=2)
    data = tmp_path / "objects"
    data.mkdir()
    for name, height in (("flat", 0.3), ("tall", 1.0)):
        save_glb(block(1.0, height, 0.5), data / f"{name}.glb")
    alone = measure_each(find_objects(data), Heights(), tmp_path / "alone")
    monkeypatch.chdir(tmp_path)  # Workers elsewhere stand in other folders.
    workers = Workers(Path("objects"), Heights, 2, 1, RayEngine)
    assert measure_in_processes(["flat", "tall"], workers, Path("marks")) == alone
    small = ShardSettings(size_px=16, shard_objects=2, lit_share=0.0)
    whole = render_shards(4, tmp_path / "whole", settings=small)
    shared = render_shards(4, Path("shared"), settings=small, workers=2, start=RayEngine)
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in whole]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("roundview.batch.on_ray.import_module", nothing)
    with pytest.raises(ValueError, match=r"roundview\[batch\]"):
        RayEngine(not_installed)
