from pathlib import Path

import numpy as np
import pytest

from roundview.data.render_set import RenderSettings
from roundview.data.stream import StreamSettings, ViewStream

SMALL = RenderSettings(size_px=16, rings=1, ring_views=4, free_views=2, supersample=1)


def test_slots_fill_change_and_are_found_again(tmp_path: Path) -> None:
    settings = StreamSettings(SMALL, slots=3)
    with ViewStream(tmp_path, settings=settings, workers=1) as stream:
        stream.wait()
        live = stream.live
        assert live.rgba.shape == (3, 6, 16, 16, 4)
        assert (live.rgba[..., 3].reshape(3, -1).max(axis=1) > 0).all()
        np.testing.assert_allclose(np.diff(live.azimuth_deg[0, :4]) % 360, 90, atol=1e-3)
        before, first = stream.drawn(), np.array(live.azimuth_deg)
        while stream.drawn() < before + 3:
            stream.check()
        assert (np.array(live.azimuth_deg) != first).any(axis=1).all()
        drawn = stream.drawn()
    with ViewStream(tmp_path, settings=settings, workers=1) as again:
        again.wait(2, timeout_s=1.0)  # At once: the worker has not even started.
        assert again.drawn() >= drawn
    with pytest.raises(RuntimeError, match="exit code"):
        again.check()  # Its worker is no more.


def test_a_ring_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="slots must be at least 1"):
        StreamSettings(slots=0)


def test_a_source_without_objects_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither"):
        ViewStream(tmp_path / "ring", tmp_path / "missing.zip")
