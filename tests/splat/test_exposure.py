from dataclasses import replace

import torch

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.exposure import Exposures, coloured
from roundview.splat.render import render_gaussians


def gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    return Gaussians(
        0.2 * torch.randn(20, 3, generator=generator),
        torch.full((20, 3), -2.0),
        torch.tensor([1.0, 0, 0, 0]).repeat(20, 1),
        torch.full((20,), 2.0),
        0.3 * torch.randn(20, 4, 3, generator=generator),
    )


def camera() -> Cameras:
    return Cameras.orbit([20.0], elevation_deg=10.0, radius=2.0, fov_deg=40.0, size_hw=(24, 24))


def test_the_map_acts_on_what_is_drawn_not_on_the_background() -> None:
    colour_map = torch.tensor([[0.5, 0.1, 0, 0.05], [0, 0.8, 0, 0.0], [0, 0, 0.7, 0.1]])
    plain = render_gaussians(gaussians(), camera(), background=(0.0, 0.0, 0.0))
    mapped = render_gaussians(
        coloured(gaussians(), colour_map), camera(), background=(0.0, 0.0, 0.0)
    )
    # Colours add up by their shares, so the map and its shift weigh as much as alpha says.
    expected = plain.rgb @ colour_map[:, :3].T + plain.alpha[..., None] * colour_map[:, 3]
    torch.testing.assert_close(mapped.rgb, expected, atol=1e-5, rtol=1e-4)


def test_the_identity_changes_nothing() -> None:
    same = coloured(gaussians(), torch.eye(3, 4))
    torch.testing.assert_close(same.sh, gaussians().sh, atol=1e-6, rtol=0)


def test_a_view_that_was_taken_darker_is_explained_by_its_map() -> None:
    bright = gaussians()
    dark = coloured(bright, torch.cat([0.7 * torch.eye(3), torch.zeros(3, 1)], dim=1))
    pictures = [render_gaussians(bright, camera()).rgb, render_gaussians(dark, camera()).rgb]
    mean = replace(bright, sh=0.5 * (bright.sh + dark.sh))
    exposures = Exposures(2, 0.01, bright.centre)
    for _ in range(60):
        for n, picture in enumerate(pictures):
            loss = (render_gaussians(exposures.seen(mean, n), camera()).rgb - picture).abs().mean()
            loss.backward()
            exposures.step(n)
    gain = exposures.maps[:, :, :3].diagonal(dim1=1, dim2=2).mean(dim=1)
    assert 1.3 < float(gain[0] / gain[1]) < 1.6  # 1 / 0.7 = 1.43
    torch.testing.assert_close(exposures.maps.mean(dim=0), torch.eye(3, 4), atol=1e-5, rtol=0)
