"""IM-3D: draw an orbit, fit Gaussians, redraw from the fit, repeat.

Melas-Kyriazi et al., "IM-3D: Iterative Multiview Diffusion and Reconstruction for High-Quality 3D
Generation", 2024. Differs from the paper: any `OrbitModel` may stand for its video model; two more
rings of views show top and bottom, which the paper's one ring leaves open; the drawn view from the
photograph's side gives way to the photograph itself; the mesh comes from fused depth, without the
optional refinement of its shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Generator

from ..camera import Cameras
from ..gaussians import Gaussians
from ..image import Foreground, Image
from ..mesh import Asset
from ..models import (
    Elevation,
    FeatureModel,
    Matte,
    OrbitModel,
    PlainStages,
    Report,
    StageRunner,
    silent,
)
from ..splat.fit import fit_gaussians
from ..splat.render import render_gaussians
from ..views import Views
from .fields import Surface, SurfaceFit, asset_by_surface
from .framing import (
    asked_cameras,
    framed_subject,
    photo_view,
    plausible_deg,
    ring_cameras,
    with_photo,
)
from .surfacing import DRAWN, Meshing


@dataclass(frozen=True)
class Im3d:
    """Settings of the recipe; the defaults are ours unless a line says otherwise.

    Attributes:
        ring_views: Views on the ring at the photograph's elevation (the paper's 16).
        more_rings: Elevation and number of views of further rings, degrees.
        size_px: Side of the pictures that are drawn and fitted.
        photo_px: Side of the framed photograph that the texture is taken from.
        distance: Of the cameras, as the models were trained.
        fov_deg: Vertical field of view, as the models were trained.
        photo_elevation_deg: Elevation that the photograph was taken from; None estimates it.
        elevation_frames: Frames drawn to estimate the elevation from (the paper's 4); 0 goes by the
            photograph alone.
        draw_steps: Sampler steps of the first drawing (the paper's 40 evaluations; the shipped
            model gained nothing from more than 4 on held-out training objects).
        redraw_steps: Sampler steps of each redrawing (the paper's 10; the same).
        redraw_after: Fitting steps after which the views are drawn anew (section 5.4: 500, 1000).
        redraw_noise: Noise of each redrawing, 0 none, 1 all. The paper does not state it; on
            held-out training objects the shipped model loses 0.1 dB at 0.1, 0.2 at 0.3, 0.3 at 0.5.
        photo_share: How much oftener the photograph is fitted to than each drawn view.
        fit_steps: Fitting steps in all (the paper's 1,200).
        mesh_resolution: Cells along a side of the grid that depth is fused in.
        surface: What the mesh comes from (the paper's is a Gaussian cloud's; any will do here).
        field_px: Side of the pictures that a field is fitted to.
        field_steps: Steps of that.
        faces: Triangles of the mesh, at most.
        texture_size: Side of the texture in pixels.
        splats: Gaussians laid on the finished mesh; None gives out the fitted cloud, which is as
            blurred as the drawn views, and was given out before.
        watertight: Close the mesh into one shell around one volume.
    """

    ring_views: int = 16
    more_rings: tuple[tuple[float, int], ...] = ((60.0, 6), (-25.0, 4))
    size_px: int = 128
    photo_px: int = 512
    distance: float = 1.5
    fov_deg: float = 49.13
    photo_elevation_deg: float | None = None
    elevation_frames: int = 4
    draw_steps: int = 10
    redraw_steps: int = 6
    redraw_after: tuple[int, ...] = (500, 1000)
    redraw_noise: tuple[float, ...] = (0.2, 0.1)
    photo_share: float = 4.0
    fit_steps: int = 1200
    mesh_resolution: int = 128
    surface: Surface = "splat"
    field_px: int = 128
    field_steps: int = 1000
    faces: int = 20_000
    texture_size: int = 1024
    splats: int | None = 40_000
    watertight: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if len(self.redraw_after) != len(self.redraw_noise):
            raise ValueError(
                f"redraw_after and redraw_noise must be of one length, got {self.redraw_after} "
                f"and {self.redraw_noise}"
            )
        points = (0, *self.redraw_after, self.fit_steps)
        if any(a >= b for a, b in pairwise(points)):
            raise ValueError(
                f"redraw_after must grow from above 0 to below fit_steps = {self.fit_steps}, got "
                f"{self.redraw_after}"
            )


STANDARD = Im3d()
DRAFT = replace(
    STANDARD,
    size_px=96,
    draw_steps=6,
    redraw_steps=4,
    redraw_after=(350,),
    redraw_noise=(0.15,),
    fit_steps=600,
    mesh_resolution=112,
    field_steps=400,
)
HIGH = replace(
    STANDARD, draw_steps=40, redraw_after=(1000, 2000), fit_steps=3000, mesh_resolution=192
)
QUALITIES = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


@dataclass(frozen=True)
class Im3dModels:
    """The networks that the recipe asks for.

    Attributes:
        matte: Cuts out the subject.
        orbit: Draws the views.
        elevation: Estimates where the photograph was taken from.
        features: For the perceptual term of the fit; without it, the fit compares colours.
    """

    matte: Matte
    orbit: OrbitModel
    elevation: Elevation
    features: FeatureModel | None = None


def im3d(
    photo: Image,
    models: Im3dModels,
    rng: Generator,
    settings: Im3d = STANDARD,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of the subject of one photograph.

    Raises:
        ValueError: If the photograph shows no subject.
    """
    stage = stage or PlainStages()
    subject = stage(
        "matte", lambda _: framed_subject(photo, models.matte, photo_px=settings.photo_px)
    )
    elevation_deg = stage(
        "elevation", lambda report: _elevation_deg(subject, models, rng, settings, report)
    )
    stage.note("photo_elevation_deg", elevation_deg)
    cameras = orbit_cameras(settings, elevation_deg)
    views = stage(
        "draw",
        lambda report: models.orbit.draw(
            subject,
            cameras,
            rng,
            photo_elevation_deg=elevation_deg,
            steps=settings.draw_steps,
            report=report,
        ),
    )

    def fit(views: Views, steps: int, start: Gaussians | None, report: Report) -> Gaussians:
        share = torch.ones(len(views))
        share[0] = settings.photo_share
        return fit_gaussians(
            with_photo(views, subject),
            steps=steps,
            rng=rng,
            start=start,
            features=models.features,
            view_weights=share,
            report=report,
        )

    def redraw(gaussians: Gaussians, noise_level: float, report: Report) -> Views:
        return models.orbit.redraw(
            subject,
            render_gaussians(gaussians, cameras),
            rng,
            photo_elevation_deg=elevation_deg,
            noise_level=noise_level,
            steps=settings.redraw_steps,
            report=report,
        )

    ends = (*settings.redraw_after, settings.fit_steps)
    gaussians = stage("fit", lambda report: fit(views, ends[0], None, report))
    for turn, noise_level in enumerate(settings.redraw_noise, start=1):
        views = stage(
            f"redraw {turn}",
            lambda report, fitted=gaussians, noise=noise_level: redraw(fitted, noise, report),
        )
        steps = ends[turn] - ends[turn - 1]
        gaussians = stage(
            f"fit {turn}",
            lambda report, seen=views, n=steps, start=gaussians: fit(seen, n, start, report),
        )
    asset, scale, shift = asset_by_surface(
        gaussians,
        with_photo(views, subject),
        photo_view(
            subject,
            elevation_deg=elevation_deg,
            distance=settings.distance,
            fov_deg=settings.fov_deg,
        ),
        by=SurfaceFit(settings.surface, settings.field_px, settings.field_steps),
        meshing=Meshing(
            resolution=settings.mesh_resolution,
            fusion=DRAWN,
            faces=settings.faces,
            texture_size=settings.texture_size,
            watertight=settings.watertight,
            splats=settings.splats,
        ),
        rng=rng,
        stage=stage,
    )
    stage.note("world_from_fitted", {"scale": scale, "shift": shift.tolist()})
    return asset


def novel_views(
    photo: Image,
    models: Im3dModels,
    rng: Generator,
    settings: Im3d,
    stage: StageRunner,
    *,
    azimuth_deg: Sequence[float] | None = None,
    elevation_deg: float | None = None,
) -> Views:
    """Draw views of the subject of a photograph, and no more.

    Args:
        photo: The photograph.
        models: The networks; features are not used.
        rng: Seeds the drawing.
        settings: `size_px`, `distance`, `fov_deg` and the steps matter here.
        stage: Runs the stages.
        azimuth_deg: Of each view; evenly round the subject by default.
        elevation_deg: Of all views; the photograph's by default.
    """
    subject = stage(
        "matte", lambda _: framed_subject(photo, models.matte, photo_px=settings.photo_px)
    )
    photo_deg = stage(
        "elevation", lambda report: _elevation_deg(subject, models, rng, settings, report)
    )
    cameras = asked_cameras(
        azimuth_deg,
        photo_deg if elevation_deg is None else elevation_deg,
        ring_views=settings.ring_views,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )
    return stage(
        "draw",
        lambda report: models.orbit.draw(
            subject,
            cameras,
            rng,
            photo_elevation_deg=photo_deg,
            steps=settings.draw_steps,
            report=report,
        ),
    )


def orbit_cameras(settings: Im3d, elevation_deg: float) -> Cameras:
    """Place the cameras of every ring; the first one stands where the photographer stood."""
    return ring_cameras(
        ((elevation_deg, settings.ring_views), *settings.more_rings),
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )


def _elevation_deg(
    subject: Foreground, models: Im3dModels, rng: Generator, settings: Im3d, report: Report
) -> float:
    """Estimate from the photograph, then from four frames drawn with that estimate.

    Appendix of the paper: features are averaged over 4 uniformly spaced frames of the first video.
    """
    if settings.photo_elevation_deg is not None:
        return settings.photo_elevation_deg
    guess_deg = plausible_deg(models.elevation(subject.over()[None]))
    if settings.elevation_frames == 0:
        return guess_deg
    few = replace(settings, ring_views=settings.elevation_frames, more_rings=())
    cameras = orbit_cameras(few, guess_deg)
    frames = models.orbit.draw(
        subject,
        cameras,
        rng,
        photo_elevation_deg=guess_deg,
        steps=settings.redraw_steps,
        report=report or silent,
    )
    return plausible_deg(models.elevation(with_photo(frames, subject).rgb))
