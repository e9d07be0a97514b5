from pathlib import Path

import pytest
from pydantic import ValidationError
from serve_fakes import made_folder

from roundview.serve.folders import JobFolder
from roundview.serve.jobs import DONE, JobStore, new_id
from roundview.serve.wire import JobSettings, times, told


def test_the_defaults_are_those_of_the_command() -> None:
    s = JobSettings()
    assert (s.recipe, s.quality, s.seed, s.faces, s.texture_size) == (
        "im3d",
        "standard",
        0,
        20_000,
        1024,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": "im3d; rm -rf /"},
        {"quality": "best"},
        {"seed": -1},
        {"faces": 10**9},
        {"texture_size": "1024; --mask /etc/passwd"},
        {"photo_elevation_deg": "nan"},
        {"weights": "/etc"},
        {"output": "../.."},
    ],
)
def test_what_is_no_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobSettings.model_validate(wrong)


def test_a_job_tells_how_the_last_one_of_its_kind_went(tmp_path: Path) -> None:
    store, folder = JobStore(tmp_path), JobFolder(tmp_path)
    settings = JobSettings(quality="draft").model_dump()
    first = store.add(new_id(), settings, queued_at_most=1)
    assert told(first, folder, store).expected == []
    store.take()
    stages = [{"name": "matte", "seconds": 0.5, "resumed": False}]
    store.progress(first.id, "matte", 1.0, stages)
    store.end(first.id, DONE)
    second = store.add(new_id(), settings, queued_at_most=1)
    expected = told(second, folder, store).expected
    ended = store.get(first.id)
    assert ended is not None
    assert told(ended, folder, store).expected == []
    took = times(store)
    store.close()
    assert [(stage.name, stage.seconds) for stage in expected] == [("matte", 0.5)]
    assert [(one.recipe, one.quality) for one in took] == [("im3d", "draft")]
    assert 0 <= took[0].seconds < 60


def test_a_done_job_tells_its_files(tmp_path: Path) -> None:
    store, folder = JobStore(tmp_path), JobFolder(tmp_path)
    job = store.add(new_id(), JobSettings(seed=3).model_dump(), queued_at_most=1)
    assert told(job, folder, store).files == []
    made_folder(folder.output)
    store.end(job.id, DONE)
    done = store.get(job.id)
    assert done is not None
    said = told(done, folder, store)
    store.close()
    by_name = {file.name: file for file in said.files}
    assert by_name["asset.glb"].bytes == len("this is asset.glb")
    assert by_name["asset.stl"].bytes is None
    assert by_name["asset.stl"].url == f"/api/jobs/{job.id}/files/asset.stl"
    assert said.preview is not None
    assert said.preview.startswith(f"/api/jobs/{job.id}/preview?v=")
    assert said.settings.seed == 3
