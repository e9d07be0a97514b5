from pathlib import Path

import numpy as np
import pytest

from roundview.data.objects import ObjectFile
from roundview.data.procedural import generated_objects
from roundview.data.solid_set import SEEN, load_solid_set, render_solid_set
from roundview.data.solids import CELLS
from roundview.mesh import Mesh


def unreadable() -> Mesh:
    raise ValueError("no mesh")


def test_objects_are_rendered_once_and_what_cannot_be_read_stays_out(tmp_path: Path) -> None:
    objects = [*generated_objects(1, 0), ObjectFile("broken", unreadable)]
    made = render_solid_set(objects, tmp_path / "set")
    assert made.ready.tolist() == [True, False]
    assert made.names == ["generated/000000", "broken"]
    assert made.rgba.shape == (2, SEEN.views, SEEN.size_px, SEEN.size_px, 4)
    assert made.fill.shape == (2, CELLS, CELLS, CELLS)
    assert 0 < (made.fill[0] > 0).mean() < 1
    assert np.abs(made.elevation_deg[0]).max() < 90
    changed = (tmp_path / "set" / "rgba.npy").stat().st_mtime_ns
    again = render_solid_set(objects[:1] + objects[1:], tmp_path / "set")
    assert (again.rgba[0] == made.rgba[0]).all()
    assert changed <= (tmp_path / "set" / "rgba.npy").stat().st_mtime_ns
    assert load_solid_set(tmp_path / "set").ready.tolist() == [True, False]


def test_a_folder_keeps_to_its_objects(tmp_path: Path) -> None:
    render_solid_set([], tmp_path / "set")
    with pytest.raises(ValueError, match="other objects"):
        render_solid_set(generated_objects(1, 0), tmp_path / "set")
