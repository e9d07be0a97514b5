"""A subject whose every side is known, and models that know it: for recipes without networks."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.image import Foreground, Image
from roundview.mesh import Mesh
from roundview.models import Report, silent
from roundview.surface.raster import render_mesh
from roundview.views import Views

SIDE_RGB = {"+z": (0.9, 0.1, 0.1), "-z": (0.1, 0.1, 0.9), "+x": (0.1, 0.8, 0.1)}


def block(width: float = 0.6, height: float = 1.0, depth: float = 0.5) -> Mesh:
    """A box: red towards +Z, blue towards -Z, green towards +X, grey elsewhere."""
    vertices, faces, colours = [], [], []
    half = torch.tensor([width, height, depth]) / 2
    for axis in range(3):
        for sign in (1.0, -1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            corner = torch.zeros(4, 3)
            corner[:, axis] = sign
            corner[:, u] = torch.tensor([-1.0, 1.0, 1.0, -1.0]) * sign
            corner[:, v] = torch.tensor([-1.0, -1.0, 1.0, 1.0])
            first = 4 * len(vertices)
            vertices.append(corner * half)
            faces.append(torch.tensor([[0, 1, 2], [0, 2, 3]]) + first)
            name = ("+" if sign > 0 else "-") + "xyz"[axis]
            colours.append(torch.tensor(SIDE_RGB.get(name, (0.5, 0.5, 0.5))).expand(4, 3))
    return Mesh(torch.cat(vertices), torch.cat(faces), vertex_rgb=torch.cat(colours))


def photo_of(mesh: Mesh, *, elevation_deg: float = 10.0, size_px: int = 128) -> Image:
    """The picture from azimuth 0, with its alpha, framed as the models expect."""
    camera = Cameras.orbit(
        [0.0],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size_px, size_px),
    )
    view = render_mesh(mesh, camera)
    return Image(view.straight_rgb()[0], view.alpha[0])


class KnowingOrbit:
    """Draws the true views of a mesh, with a little noise from the generator."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.calls: list[tuple[str, int]] = []

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        self.calls.append(("draw", len(cameras)))
        views = render_mesh(self.mesh, cameras)
        report(1.0)
        noise = 0.01 * torch.randn(views.rgb.shape, generator=rng)
        return Views((views.rgb + noise).clamp(0, 1), views.alpha, cameras)

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        self.calls.append(("redraw", len(views)))
        truth = render_mesh(self.mesh, views.cameras)
        rgb = views.rgb + noise_level * (truth.rgb - views.rgb)
        return Views(rgb.detach().clamp(0, 1), truth.alpha, views.cameras)


class KnownElevation:
    """Knows the elevation, and how many frames it was shown."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees
        self.frames: list[int] = []

    def __call__(self, frames: Float[Tensor, "n h w 3"]) -> float:
        self.frames.append(len(frames))
        return self.degrees
