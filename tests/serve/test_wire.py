from pathlib import Path

import pytest
from pydantic import ValidationError
from serve_fakes import made_folder

from roundview.serve.folders import JobFolder
from roundview.serve.jobs import DONE, JobStore, new_id
from roundview.serve.wire import JobSettings, told


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
