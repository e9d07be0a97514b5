"""Measure the estimators of depth and normals, and of elevation, on objects seen all round."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras
from ..data.objects import ObjectFile
from ..mesh import Mesh
from ..models import DepthModel, Elevation, Report, silent
from ..surface.raster import render_mesh
from ..views import Views
from .protocol import as_written


@dataclass(frozen=True)
class HeadsProtocol:
    """Unlit pictures of each object from all round, at the elevations that photos are taken from.

    Attributes:
        size_px: Side of the pictures.
        azimuths: Views at each elevation, evenly spaced from 0.
        elevations_deg: Rings that are shown.
        distance: Of the cameras from the middle of the object, whose longest side is 1.
        fov_deg: Vertical field of view.
        supersample: Samples along each pixel's side.
    """

    size_px: int = 128
    azimuths: int = 4
    elevations_deg: tuple[float, ...] = (-10.0, 0.0, 10.0, 20.0, 30.0, 40.0)
    distance: float = 1.5
    fov_deg: float = 49.13
    supersample: int = 3

    NAME = "heads-around"

    def cameras(self, elevation_deg: float) -> Cameras:
        """Place the views of one elevation."""
        return Cameras.orbit(
            [360.0 * k / self.azimuths for k in range(self.azimuths)],
            elevation_deg=elevation_deg,
            radius=self.distance,
            fov_deg=self.fov_deg,
            size_hw=(self.size_px, self.size_px),
        )


def evaluate_heads(
    objects: Sequence[ObjectFile],
    *,
    depth: DepthModel | None = None,
    elevation: Elevation | None = None,
    protocol: HeadsProtocol = HeadsProtocol(),
    report: Report = silent,
) -> dict[str, Any]:
    """Mark estimators on objects; give the means over objects and what each object got.

    Keys of the means and of each row, those of an estimator that is not given left out:
    `depth_pearson`, the correlation of estimated and true inverse depth inside the object, mean
    over views; `normal_deg`, the mean angle between normals there; `elevation_1_deg` and
    `elevation_ring_deg`, the mean absolute error from one picture and from a ring of them.
    """
    rows = []
    for at, item in enumerate(objects):
        rows.append({"object": item.name} | mark_object(item.read(), depth, elevation, protocol))
        report((at + 1) / len(objects))
    keys = [key for key in rows[0] if key != "object"] if rows else []
    means = {key: round(fmean(row[key] for row in rows), 4) for key in keys}
    return {
        "protocol": HeadsProtocol.NAME,
        "settings": asdict(protocol),
        "mean": means,
        "objects": rows,
    }


def mark_object(
    mesh: Mesh,
    depth: DepthModel | None,
    elevation: Elevation | None,
    protocol: HeadsProtocol,
) -> dict[str, float]:
    """Mark estimators on one object that is centred and has longest side 1."""
    marks: dict[str, list[float]] = {}
    for height in protocol.elevations_deg:
        cameras = protocol.cameras(height)
        views = render_mesh(mesh, cameras, supersample=protocol.supersample)
        rgb = as_written(views.rgb)
        if depth is not None:
            inverse, normal = depth(rgb)
            found = depth_marks(inverse.cpu(), normal.cpu(), views)
            for key, values in found.items():
                marks.setdefault(key, []).extend(values)
        if elevation is not None:
            alone = [abs(elevation(one[None]) - height) for one in rgb]
            marks.setdefault("elevation_1_deg", []).extend(alone)
            marks.setdefault("elevation_ring_deg", []).append(abs(elevation(rgb) - height))
    return {key: round(fmean(values), 4) for key, values in marks.items()}


def depth_marks(
    inverse: Float[Tensor, "n h w"], normal: Float[Tensor, "n h w 3"], views: Views
) -> dict[str, list[float]]:
    """Compare maps with the geometry of rendered views, pixels half covered or more; each view's.

    Raises:
        ValueError: If the views have no geometry.
    """
    if views.depth is None or views.normal is None:
        raise ValueError("views must have depth and normal: render them with geometry")
    inside = (views.alpha >= 0.5) & (views.depth > 0)
    rotation = views.cameras.world_from_camera[:, :3, :3]
    facing = torch.einsum("nhwi,nij->nhwj", views.normal, rotation)
    cosine = (facing * normal).sum(dim=-1).clamp(-1, 1)
    angle = torch.rad2deg(cosine.acos())
    truth = 1 / views.depth.clamp(min=1e-6)
    shown = [k for k in range(len(views)) if bool(inside[k].any())]
    return {
        "depth_pearson": [pearson(inverse[k], truth[k], inside[k]) for k in shown],
        "normal_deg": [float(angle[k][inside[k]].mean()) for k in shown],
    }


def pearson(
    first: Float[Tensor, "h w"], second: Float[Tensor, "h w"], inside: Bool[Tensor, "h w"]
) -> float:
    """Give the correlation of two maps inside a mask; 0 if either is flat there."""
    a, b = (level[inside].double() - level[inside].double().mean() for level in (first, second))
    length = float(a.norm() * b.norm())
    return float((a * b).sum()) / length if length > 1e-12 else 0.0
