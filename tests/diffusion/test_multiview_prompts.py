"""MVDream is told words, ImageDream words and a picture."""

from collections.abc import Sequence

import torch
from checkpoints_tiny import CODEC, TOWER
from torch import Tensor, nn

from roundview.camera import Cameras
from roundview.diffusion.clip import ClipTower
from roundview.diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from roundview.diffusion.multiview import ViewsTold, camera_vectors
from roundview.diffusion.multiview_prompts import placed, tell_imagedream, tell_mvdream
from roundview.image import Foreground

CAMERAS = Cameras.orbit(
    [0.0, 90.0, 180.0, 270.0] * 2, elevation_deg=15.0, radius=1.5, fov_deg=49.0, size_hw=(8, 8)
)


def texts(said: Sequence[str]) -> Tensor:
    """As many letters as each text has."""
    return torch.tensor([float(len(text)) for text in said])[:, None, None].expand(-1, 3, 5)


def subject() -> Foreground:
    torch.manual_seed(0)
    alpha = torch.zeros(32, 32)
    alpha[8:24, 8:24] = 1
    return Foreground(torch.rand(32, 32, 3), alpha)


def test_mvdream_is_told_a_caption_as_in_its_training() -> None:
    given, without = tell_mvdream(texts, "a cat", negative="bad")(subject())(CAMERAS)
    assert given.tokens.shape == (8, 3, 5)
    assert float(given.tokens[0, 0, 0]) == len("a cat, 3d asset")
    assert float(without.tokens[0, 0, 0]) == 3
    # Guidance leaves the cameras as they are.
    torch.testing.assert_close(given.camera, camera_vectors(CAMERAS, "once"))
    torch.testing.assert_close(without.camera, given.camera)


@torch.no_grad()
def test_imagedream_sees_the_picture_over_grey_as_a_view_of_each_object() -> None:
    torch.manual_seed(0)
    tower, autoencoder = ClipTower(TOWER), LdmAutoencoder(CODEC)
    tell = tell_imagedream(texts, tower, autoencoder, "", size_px=32)
    given, without = tell(subject())(CAMERAS)
    assert given.features is not None
    assert given.picture is not None
    assert given.features.shape == (8, 5, 64)
    assert given.picture.shape == (2, 4, 4, 4)
    grey = subject().rgb * subject().alpha[..., None] + 0.5 * (1 - subject().alpha[..., None])
    latents = autoencoder.encode(grey.movedim(-1, 0)[None] * 2 - 1) * LATENT_SCALE
    torch.testing.assert_close(given.picture[:1], latents, atol=1e-5, rtol=1e-4)
    assert without.features is not None
    assert without.picture is not None
    assert not bool(without.features.any())
    assert not bool(without.picture.any())
    # Nothing was said, so nothing is added to it.
    assert not bool(given.tokens.any())


def test_local_mode_has_no_view_of_the_picture() -> None:
    torch.manual_seed(0)
    tell = tell_imagedream(texts, ClipTower(TOWER), None, "a cat", size_px=32)
    given, without = tell(subject())(CAMERAS)
    assert given.picture is None
    assert without.picture is None
    assert given.features is not None


def test_a_model_may_be_asked_in_any_precision() -> None:
    network = nn.Linear(2, 2).double()

    def model(x: Tensor, t: Tensor, told: ViewsTold) -> Tensor:
        del t
        dtypes = {each.dtype for each in (x, told.tokens, told.camera)}
        assert dtypes == {torch.float64}
        return x + told.tokens.sum()

    told = ViewsTold(torch.ones(1, 1, 1), torch.zeros(1, 16))
    found = placed(model, network)(torch.zeros(1, 4, 2, 2), torch.tensor([1]), told)
    assert found.dtype == torch.float32
    assert float(found.mean()) == 1
