import torch
from jaxtyping import Float
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.guide import Guided
from roundview.diffusion.view_guide import ViewGuide


class Seeing:
    """Believes that every view is grey."""

    shares = torch.linspace(0.99, 0.01, 1000)
    size_px = 8
    together = 1

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        return rgba[:, :3]

    def told(self, cameras: Cameras) -> Guided[int]:
        return Guided(lambda x, t, seen: x - 0.5 * seen + 0 * t.sum(), len(cameras), 0, 2.0)


def test_what_encodes_and_can_be_told_is_a_guide() -> None:
    guide = Seeing()
    assert isinstance(guide, ViewGuide)
    assert not isinstance(torch.nn.Identity(), ViewGuide)
    cameras = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.0, size_hw=(8, 8))
    x = guide.encode(torch.rand(1, 4, 8, 8))
    assert guide.told(cameras)(x, torch.zeros(1, dtype=torch.long)).shape == x.shape
