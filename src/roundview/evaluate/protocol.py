"""What is shown, what is asked, and how the answer is marked: the protocol `nvs-syncdreamer`."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..image import Foreground
from ..mesh import Mesh
from ..metrics import psnr, ssim
from ..surface.raster import render_mesh
from ..views import Views


@dataclass(frozen=True)
class NvsProtocol:
    """Novel views of an object from one picture of it, all round at the picture's own elevation.

    The views of Liu et al., "SyncDreamer: Generating Multiview-consistent Images from a Single-view
    Image", 2023: 16 of them, azimuth 0, 22.5, ..., elevation 30. Ours are drawn by this package's
    rasteriser without light, so numbers do not compare with those of other renderers.

    Attributes:
        size_px: Side of the pictures that are compared.
        views: On the ring; the first one is the photograph and is not marked.
        elevation_deg: Of the ring.
        distance: Of the cameras from the middle of the object, whose longest side is 1.
        fov_deg: Vertical field of view.
        supersample: Samples along each pixel's side.
    """

    size_px: int = 256
    views: int = 16
    elevation_deg: float = 30.0
    distance: float = 1.5
    fov_deg: float = 49.13
    supersample: int = 3

    NAME = "nvs-syncdreamer"

    def __post_init__(self) -> None:
        """Refuse rings without a novel view."""
        if self.views < 2:
            raise ValueError(f"views must be 2 or more (the first is the photo), got {self.views}")

    def cameras(self, elevation_deg: float | None = None) -> Cameras:
        """Place the ring, the photographer first; at another elevation if one is given."""
        return Cameras.orbit(
            [360.0 * k / self.views for k in range(self.views)],
            elevation_deg=self.elevation_deg if elevation_deg is None else elevation_deg,
            radius=self.distance,
            fov_deg=self.fov_deg,
            size_hw=(self.size_px, self.size_px),
        )


@dataclass(frozen=True, eq=False)
class Truth:
    """The true views of an object, in 8 bits like the files they would be.

    Attributes:
        views: Over white; the first one is the photograph.
        photo: The photograph with its true alpha, framed as it was rendered.
    """

    views: Views
    photo: Foreground


def render_truth(mesh: Mesh, protocol: NvsProtocol) -> Truth:
    """Draw the true views of a mesh that is centred and has longest side 1."""
    views = render_mesh(mesh, protocol.cameras(), supersample=protocol.supersample, geometry=False)
    return truth_from_views(views)


def truth_from_views(views: Views) -> Truth:
    """Round true views to 8 bits, and take the first one for the photograph."""
    first = views[0]
    photo = Foreground(as_written(first.straight_rgb())[0], as_written(first.alpha)[0])
    return Truth(replace(views, rgb=as_written(views.rgb)), photo)


def mark(rgb: Float[Tensor, "n h w 3"], truth: Truth) -> dict[str, list[float]]:
    """Compare pictures of all views, over white, with the true ones; the photograph's is left out.

    Returns:
        `psnr` (dB) and `ssim` of each novel view, in the order of the ring.
    """
    drawn, wanted = as_written(rgb)[1:].cpu(), truth.views.rgb[1:]
    return {
        "psnr": [round(float(x), 4) for x in psnr(drawn, wanted)],
        "ssim": [round(float(x), 5) for x in ssim(drawn, wanted)],
    }


def as_written(picture: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Round to the 256 values that a PNG holds."""
    return torch.round(picture.detach().clamp(0, 1) * 255) / 255
