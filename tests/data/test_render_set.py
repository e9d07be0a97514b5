from pathlib import Path

import numpy as np
import pytest

from roundview.data.procedural import procedural_object
from roundview.data.render_set import RenderSettings, load_set, render_set
from roundview.mesh import Mesh

SMALL = RenderSettings(size_px=16, rings=2, ring_views=4, free_views=3, supersample=1)


def objects(count: int) -> list[tuple[str, Mesh]]:
    rng = np.random.default_rng(0)
    return [(f"thing {i}", procedural_object(rng)) for i in range(count)]


def test_rings_are_evenly_spaced_at_one_elevation(tmp_path: Path) -> None:
    made = render_set(objects(2), 2, tmp_path, settings=SMALL)
    assert made.rgba.shape == (2, 11, 16, 16, 4)
    for ring in (slice(0, 4), slice(4, 8)):
        steps = np.diff(made.azimuth_deg[0, ring]) % 360
        np.testing.assert_allclose(steps, 90, atol=1e-3)
        assert np.ptp(made.elevation_deg[0, ring]) == 0
        assert -10 <= made.elevation_deg[0, ring][0] <= 40


def test_objects_are_seen_over_white(tmp_path: Path) -> None:
    made = render_set(objects(1), 1, tmp_path, settings=SMALL)
    alpha = made.rgba[..., 3]
    assert (alpha > 0).any()
    assert (made.rgba[..., :3][alpha == 0] == 255).all()


def test_a_finished_set_is_read_back_and_another_one_made_anew(tmp_path: Path) -> None:
    first = render_set(objects(2), 2, tmp_path, seed=1, settings=SMALL)
    again = render_set(iter(()), 2, tmp_path, seed=1, settings=SMALL)  # Would fail if it rendered.
    assert (first.rgba == again.rgba).all()
    assert load_set(tmp_path).names == ["thing 0", "thing 1"]
    other = render_set(objects(2), 2, tmp_path, seed=2, settings=SMALL)
    assert other.azimuth_deg[0, 0] != again.azimuth_deg[0, 0]


def test_too_few_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only 1"):
        render_set(objects(1), 3, tmp_path, settings=SMALL)
