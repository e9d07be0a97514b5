from functools import partial
from pathlib import Path

import pytest
from job_measures import Heights

from roundview.batch.local import LocalEngine
from roundview.batch.on_ray import RayEngine
from roundview.cli.options import Device
from roundview.cli.sharing import EngineName, start_of, workers_of


def test_ray_is_told_where_it_is_and_how_many_gpus_a_worker_takes() -> None:
    assert start_of(EngineName.local, None) is None
    start = start_of(EngineName.ray, "auto", Device.cuda)
    assert isinstance(start, partial)
    assert start.func is RayEngine
    assert start.keywords == {"address": "auto", "gpus": 1.0}
    with pytest.raises(ValueError, match="--address goes with"):
        start_of(EngineName.local, "auto")


def test_one_process_needs_no_workers_and_ray_always_has_some(tmp_path: Path) -> None:
    assert workers_of(tmp_path, Heights, 1, None, None) is None
    local = workers_of(tmp_path, Heights, 3, None, None)
    assert local is not None
    assert (local.count, local.threads, local.start) == (3, None, LocalEngine)
    start = start_of(EngineName.ray, None)
    far = workers_of(tmp_path, Heights, 1, None, start)
    assert far is not None
    assert (far.count, far.threads, far.start) == (1, 2, start)
