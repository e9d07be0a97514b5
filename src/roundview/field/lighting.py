"""A lamp beside the camera, so that shape shows in pictures of a field and not only colour.

Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", 2023, section 3.1; lamps are drawn as
threestudio draws them (Guo et al., 2023).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..camera import Cameras
from .render import Shade


@dataclass(frozen=True, eq=False)
class Lamps:
    """One lamp a ray; what it shines on is matte.

    Attributes:
        position: World units.
        ambient: Light from everywhere, added to that of the lamp.
        diffuse: Light of the lamp on what faces it.
        textureless: Show all in white, so that only shape counts.
    """

    position: Float[Tensor, "r 3"]
    ambient: float
    diffuse: float
    textureless: bool = False

    def __call__(
        self, points: Float[Tensor, "p 3"], ray: Int[Tensor, " p"], shade: Shade
    ) -> Float[Tensor, "p 3"]:
        """Give what samples look like: rgb (ambient + diffuse max(0, n . l)), their equation 7.

        Raises:
            ValueError: If the samples have no normals.
        """
        if shade.normal is None:
            raise ValueError("lamps need samples with normals")
        towards = torch.nn.functional.normalize(self.position[ray] - points, dim=1)
        facing = (shade.normal * towards).sum(dim=1, keepdim=True).clamp(min=0)
        light = self.ambient + self.diffuse * facing
        return light.expand(-1, 3) if self.textureless else shade.rgb * light


@dataclass(frozen=True)
class LampSettings:
    """How a lamp is drawn for the views of an object.

    Attributes:
        distance: Least and most, from the origin (threestudio's 0.8 and 1.5, where the subject's
            cube has half a width of 1).
        spread: Deviation of what is added to the camera's place before its direction is taken.
        soft: Share lamp and ambient light at random; else they have 0.9 and 0.1 (DreamFusion).
    """

    distance: tuple[float, float] = (0.8, 1.5)
    spread: float = 1.0
    soft: bool = True

    def draw(
        self, cameras: Cameras, rng: Generator, *, half_width: float, textureless: bool
    ) -> "Lamps":
        """Place a lamp for each camera; what is random about them is the same for all cameras.

        Args:
            cameras: The n cameras; lamps stand somewhere on their side.
            rng: CPU generator.
            half_width: Of the subject's cube: the unit of distances.
            textureless: See `Lamps`.

        Returns:
            Lamps for n rays: one a camera, in the cameras' order; see `for_rays`.
        """
        low, high = self.distance
        distance = low + (high - low) * float(torch.rand((), generator=rng))
        noise = self.spread * torch.randn(3, generator=rng)
        beside = cameras.origin / half_width + noise.to(cameras.origin)
        position = torch.nn.functional.normalize(beside, dim=1) * (distance * half_width)
        diffuse = float(torch.rand((), generator=rng)) if self.soft else 0.9
        return Lamps(position, 1 - diffuse, diffuse, textureless)


def for_rays(lamps: Lamps, rays_each: int) -> Lamps:
    """Give every ray of a camera that camera's lamp; rays go camera by camera."""
    position = lamps.position.repeat_interleave(rays_each, dim=0)
    return Lamps(position, lamps.ambient, lamps.diffuse, lamps.textureless)
