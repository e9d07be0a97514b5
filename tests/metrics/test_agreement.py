from dataclasses import replace

import pytest
import torch
from fakes import block
from torchmetrics.functional.classification import binary_jaccard_index

from roundview.camera import Cameras
from roundview.metrics.agreement import elevation_error_deg, matte_iou, view_consistency
from roundview.surface.raster import render_mesh
from roundview.views import Views


def views() -> Views:
    """A block of flat colours from nearby cameras."""
    cameras = Cameras.orbit(
        [0.0, 10.0, 20.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(48, 48)
    )
    return render_mesh(block(), cameras, supersample=1)


def test_true_views_agree_but_for_their_edges() -> None:
    # Where two flat colours meet, one view's pixel lies between two of the other's.
    assert float(view_consistency(views()).max()) < 0.12


def test_a_view_in_another_tint_disagrees_by_the_tint() -> None:
    seen = views()
    base = view_consistency(seen)
    grey = replace(seen, rgb=torch.full_like(seen.rgb, 0.5))
    torch.testing.assert_close(view_consistency(grey), torch.zeros(3), rtol=0, atol=1e-6)
    lighter = grey.rgb.clone()
    lighter[1] += 0.2
    got = view_consistency(replace(grey, rgb=lighter))
    torch.testing.assert_close(got, torch.tensor([0.2, 0.2, 0.0]), rtol=0, atol=1e-5)
    assert float(base.max()) < 0.2


def test_what_the_next_view_does_not_see_does_not_count() -> None:
    seen = views()
    blind = replace(seen, alpha=torch.stack([seen.alpha[0], torch.zeros(48, 48), seen.alpha[2]]))
    got = view_consistency(blind)
    assert bool(torch.isnan(got[0]))
    assert bool(torch.isnan(got[1]))
    assert not bool(torch.isnan(got[2]))


def test_views_without_depth_or_company_are_refused() -> None:
    with pytest.raises(ValueError, match="two or more views with depth"):
        view_consistency(replace(views(), depth=None))
    with pytest.raises(ValueError, match="two or more views with depth"):
        view_consistency(views()[0])


def test_elevation_errors_have_no_sign() -> None:
    got = elevation_error_deg(torch.tensor([10.0, -5.0]), torch.tensor([30.0, -7.0]))
    assert got.tolist() == [20.0, 2.0]


def test_matte_overlap_by_hand_and_by_torchmetrics() -> None:
    a, b = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    a[0, :2], b[0, 1:3] = 1.0, 0.8  # Rows 0-1 and 1-2: one of three.
    a[1] = 0.4  # Below a half is outside.
    assert matte_iou(a, b).tolist() == pytest.approx([1 / 3, 1.0, 1.0])
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(1, 9, 9, generator=rng), torch.rand(1, 9, 9, generator=rng)
    theirs = binary_jaccard_index((a > 0.5).int(), (b > 0.5).int())
    torch.testing.assert_close(matte_iou(a, b)[0], theirs)
