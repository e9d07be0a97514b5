from dataclasses import replace

import pytest
import torch

from roundview.camera import Cameras
from roundview.mesh import Mesh, Texture
from roundview.metrics import psnr
from roundview.surface.raster import render_mesh
from roundview.surface.refine_texture import RefiningTexture, refine_texture
from roundview.views import Views


def card(texture: torch.Tensor) -> Mesh:
    """A square of side 1 round the origin that faces +Z."""
    return Mesh(
        torch.tensor([[-0.5, 0.5, 0], [-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        torch.tensor([[0.0, 0], [0, 1.0], [1.0, 1.0], [1.0, 0]]),
        Texture(texture),
    )


def noise(side: int, seed: int = 0) -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(side, side, 3, generator=torch.Generator().manual_seed(seed))


def fan(size_px: int = 40) -> Cameras:
    """Cameras in front of the card, none of which looks at it quite squarely."""
    return Cameras.orbit(
        [-33.0, -12.0, 3.0, 14.0, 31.0],
        elevation_deg=[11.0, -17.0, 4.0, 28.0, -6.0],
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size_px, size_px),
    )


def pictures(mesh: Mesh, cameras: Cameras, supersample: int = 2) -> Views:
    return render_mesh(mesh, cameras, supersample=supersample, geometry=False)


def test_texture_is_found_again_from_its_pictures() -> None:
    # 16 x 16 texels, 29 x 29 pixels of the card in each of five pictures.
    truth = card(noise(16))
    grey = card(torch.full((16, 16, 3), 0.5))
    found = refine_texture(
        grey, pictures(truth, fan()), settings=RefiningTexture(steps=60, keep=1e-4)
    )
    assert found.texture is not None
    assert truth.texture is not None
    # The rim is at the outline, where no pixel counts.
    inner = (found.texture.rgb - truth.texture.rgb)[2:-2, 2:-2]
    assert float(inner.abs().max()) < 0.01


def test_unseen_views_gain() -> None:
    truth = card(noise(24))
    blurred = torch.nn.functional.avg_pool2d(noise(24).permute(2, 0, 1), 3, 1, 1)
    start = card(blurred.permute(1, 2, 0))
    refined = refine_texture(start, pictures(truth, fan()))
    unseen = Cameras.orbit([20.0], elevation_deg=15.0, radius=1.5, fov_deg=49.13, size_hw=(40, 40))
    wanted = pictures(truth, unseen).rgb
    scores = [float(psnr(pictures(m, unseen).rgb, wanted)) for m in (start, refined)]
    assert scores[1] > scores[0] + 4


def test_texels_out_of_sight_keep_their_colour() -> None:
    # The left half is all that the pictures show: on the right their subject ends.
    start, truth = card(noise(16)), card(noise(16, seed=1))
    whole = pictures(truth, fan()[2])
    cut = whole.alpha.clone()
    cut[..., 20:] = 0
    refined = refine_texture(start, Views(whole.rgb, cut, whole.cameras))
    assert refined.texture is not None
    assert start.texture is not None
    change = (refined.texture.rgb - start.texture.rgb).abs().amax(dim=(0, 2))
    assert bool((change[9:] == 0).all())
    assert bool((change[2:6] > 0.1).all())


def test_one_step_by_hand() -> None:
    # One texel colours everything, so every pixel that counts wants the same of it. With p pixels
    # of wanted colour 0.8, start 0.2 and weight k: (p * 0.8 + k * 0.2) / (p + k).
    start, truth = card(torch.full((1, 1, 3), 0.2)), card(torch.full((1, 1, 3), 0.8))
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.0, fov_deg=90.0, size_hw=(8, 8))
    # The card fills 4 x 4 pixels, of which the inner 2 x 2 are a pixel from its outline.
    refined = refine_texture(
        start, pictures(truth, camera), settings=RefiningTexture(steps=3, keep=2.0)
    )
    assert refined.texture is not None
    torch.testing.assert_close(refined.texture.rgb, torch.full((1, 1, 3), (4 * 0.8 + 2 * 0.2) / 6))


def test_weights_settle_what_views_disagree_on() -> None:
    bright, dark = (pictures(card(torch.full((4, 4, 3), x)), fan()) for x in (0.9, 0.1))
    rgb = torch.cat([bright.rgb[:1], dark.rgb[1:]])
    mixed = Views(rgb, bright.alpha, bright.cameras)
    refined = refine_texture(
        card(torch.full((4, 4, 3), 0.5)), mixed, view_weights=torch.tensor([1.0, 0, 0, 0, 0])
    )
    assert refined.texture is not None
    torch.testing.assert_close(
        refined.texture.rgb[1:3, 1:3], torch.full((2, 2, 3), 0.9), rtol=0, atol=1e-2
    )


def test_pictures_without_anything_change_nothing() -> None:
    start = card(noise(8))
    white = Views(torch.ones(1, 9, 9, 3), torch.zeros(1, 9, 9), fan(9)[0])
    refined = refine_texture(start, white)
    assert refined.texture is not None
    assert start.texture is not None
    assert torch.equal(refined.texture.rgb, start.texture.rgb)


def test_mesh_without_texture_is_refused() -> None:
    with pytest.raises(ValueError, match="no texture"):
        refine_texture(replace(card(noise(4)), texture=None), pictures(card(noise(4)), fan()))


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 1, 1, 1, 1]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="view_weights"):
        refine_texture(
            card(noise(4)), pictures(card(noise(4)), fan()), view_weights=torch.tensor(weights)
        )


def test_progress_is_reported() -> None:
    heard: list[float] = []
    refine_texture(card(noise(4)), pictures(card(noise(4)), fan()), report=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
