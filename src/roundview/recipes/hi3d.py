"""Hi3D: draw an orbit, sharpen it as one clip, fit Gaussians, and a surface to more views of them.

Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video Diffusion Models",
2024. The first stage draws 16 views on the photograph's ring, told its elevation; the second draws
them again at twice the size, told the coarse views and their estimated depth; 3D Gaussians fitted
to them give M more views between neighbours, and a signed distance field is fitted to all.

Differs from the paper: any `OrbitModel` may be the first stage. Its one ring leaves top and bottom
unseen; where the model can, two more rings are drawn with it as IM-3D's recipe does, which the
second stage, made for one ring, leaves as they are: they count less in the fit of the Gaussians,
and the surface is fitted to what these look like from there. A public video model draws the ring
alone (`more_rings` is then empty), and top and bottom are what the field makes of the silhouettes.
The elevation is estimated where the authors ask the user. The drawn view from the photograph's
side gives way to the photograph.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Generator

from ..camera import Cameras, concatenate_cameras
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
from ..views import Views, concatenate_views
from .between import between_neighbours
from .fields import Surface, mesh_of_field
from .framing import photo_view, ring_cameras, seen_subject, with_photo
from .surfacing import DRAWN, Meshing, asset_from_gaussians, finished_asset


@dataclass(frozen=True)
class Hi3d:
    """Settings of the recipe; the defaults are ours unless a line says otherwise.

    Attributes:
        ring_views: Views on the ring at the photograph's elevation (the paper's 16).
        more_rings: Elevation and number of views of further rings, degrees.
        draw_px: Side of the pictures of the first stage (the paper's 512).
        size_px: Side of the refined pictures, which are fitted (the paper's 1,024).
        photo_px: Side of the framed photograph that the texture is taken from.
        distance: Of the cameras, as the models were trained.
        fov_deg: Vertical field of view, as the models were trained.
        photo_elevation_deg: Elevation that the photograph was taken from; None estimates it.
        draw_steps: Sampler steps of the first stage (the paper's code: 25; the shipped model gained
            nothing from more than 4 on held-out training objects).
        refine_steps: Sampler steps of the second stage (25; the shipped one was trained to be asked
            once, and a published one's steps are taken from its card); 0 leaves it out, and the
            drawn views are enlarged.
        photo_share: How much oftener the photograph is fitted to than each view of the ring.
        further_share: The same of each view of the further rings.
        fit_steps: Steps of the Gaussians' fit.
        between: M, views rendered between the neighbours on the ring (the paper's best: 16); a
            multiple of `ring_views`.
        surface: What the mesh comes from; the paper's is "sdf".
        field_px: Side of the pictures that a field is fitted to.
        field_steps: Steps of that.
        mesh_resolution: Cells along a side of the grid that the surface is taken from.
        faces: Triangles of the mesh, at most.
        texture_size: Side of the texture in pixels.
        splats: Gaussians laid on the finished mesh; None gives out the fitted cloud, which is as
            blurred as the drawn views, and was given out before.
        watertight: Close the mesh into one shell around one volume.
    """

    ring_views: int = 16
    more_rings: tuple[tuple[float, int], ...] = ((60.0, 6), (-25.0, 4))
    draw_px: int = 64
    size_px: int = 128
    photo_px: int = 512
    distance: float = 1.5
    fov_deg: float = 49.13
    photo_elevation_deg: float | None = None
    draw_steps: int = 4
    refine_steps: int = 1
    photo_share: float = 4.0
    further_share: float = 0.5
    fit_steps: int = 1000
    between: int = 16
    surface: Surface = "sdf"
    field_px: int = 128
    field_steps: int = 1000
    mesh_resolution: int = 128
    faces: int = 20_000
    texture_size: int = 1024
    splats: int | None = 40_000
    watertight: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.between < 0 or self.between % self.ring_views:
            raise ValueError(
                f"between must be a multiple of ring_views = {self.ring_views}, got {self.between}"
            )


STANDARD = Hi3d()
DRAFT = replace(STANDARD, fit_steps=400, field_px=96, field_steps=400, mesh_resolution=112)
HIGH = replace(STANDARD, draw_steps=10, fit_steps=3000, field_steps=4000, mesh_resolution=192)
QUALITIES = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


@runtime_checkable
class OrbitRefiner(Protocol):
    """Draws one ring of views again, sharper: the second stage."""

    def refine(
        self,
        views: Views,
        subject: Foreground,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Refine the ring, whose first view is the photograph's; the size is the model's own."""
        ...


@dataclass(frozen=True)
class Hi3dModels:
    """The networks that the recipe asks for.

    Attributes:
        matte: Cuts out the subject.
        orbit: Draws the views, the first stage.
        refiner: Sharpens the ring, the second stage; estimates the depth that it is told.
        elevation: Estimates where the photograph was taken from.
        features: For the perceptual term of the fit; without it, the fit compares colours.
    """

    matte: Matte
    orbit: OrbitModel
    refiner: OrbitRefiner
    elevation: Elevation
    features: FeatureModel | None = None


def hi3d(
    photo: Image,
    models: Hi3dModels,
    rng: Generator,
    settings: Hi3d = STANDARD,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of the subject of one photograph.

    Raises:
        ValueError: If the photograph shows no subject.
    """
    stage = stage or PlainStages()
    subject, elevation_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    cameras = orbit_cameras(settings, elevation_deg)
    drawn = _drawn(subject, cameras, elevation_deg, models, rng, settings, stage)
    refined = _refined(
        drawn[: settings.ring_views], subject, elevation_deg, models, rng, settings, stage
    )
    ring = views = with_photo(refined, subject)
    if settings.more_rings:
        further = drawn[settings.ring_views :].resized(ring.cameras.size_hw)
        views = concatenate_views([ring, further])
    share = torch.ones(len(views))
    share[0] = settings.photo_share
    share[settings.ring_views :] = settings.further_share
    gaussians = stage(
        "fit",
        lambda report: fit_gaussians(
            views,
            steps=settings.fit_steps,
            rng=rng,
            features=models.features,
            view_weights=share,
            report=report,
        ),
    )
    place = photo_view(
        subject,
        elevation_deg=elevation_deg,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
    )
    return _asset(gaussians, views, place, rng, settings, stage)


def novel_views(
    photo: Image,
    models: Hi3dModels,
    rng: Generator,
    settings: Hi3d,
    stage: StageRunner,
    *,
    azimuth_deg: Sequence[float] | None = None,
    elevation_deg: float | None = None,
) -> Views:
    """Draw views of the subject of a photograph, and no more.

    Views on the photograph's ring are refined; others, which the second stage does not know, are
    those of the first, enlarged.

    Args:
        photo: The photograph.
        models: The networks; features are not used.
        rng: Seeds the drawing.
        settings: Sizes, `distance`, `fov_deg` and the steps matter here.
        stage: Runs the stages.
        azimuth_deg: Of each view; evenly round the subject by default.
        elevation_deg: Of all views; the photograph's by default.
    """
    subject, photo_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    ring = orbit_cameras(replace(settings, more_rings=()), photo_deg)
    gap = 360.0 / settings.ring_views
    asked = [gap * k for k in range(settings.ring_views)] if azimuth_deg is None else azimuth_deg
    place = [round(a / gap) % settings.ring_views for a in asked]
    level = photo_deg if elevation_deg is None else elevation_deg
    on_ring = all(abs(a / gap - round(a / gap)) < 1e-3 for a in asked)
    if on_ring and abs(level - photo_deg) < 1e-3:
        drawn = _drawn(subject, ring, photo_deg, models, rng, settings, stage)
        return _refined(drawn, subject, photo_deg, models, rng, settings, stage)[place]
    others = Cameras.orbit(
        asked,
        elevation_deg=level,
        radius=settings.distance,
        fov_deg=settings.fov_deg,
        size_hw=ring.size_hw,
    )
    # Drawn with the ring, so that they are views of what it shows.
    every = concatenate_cameras([ring, others])
    both = _drawn(subject, every, photo_deg, models, rng, settings, stage)
    return both[len(ring) :].resized((settings.size_px, settings.size_px))


def orbit_cameras(settings: Hi3d, elevation_deg: float) -> Cameras:
    """Place the first stage's cameras: the photograph's ring from azimuth 0 on, then the others."""
    return ring_cameras(
        ((elevation_deg, settings.ring_views), *settings.more_rings),
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.draw_px,
    )


def _drawn(
    subject: Foreground,
    cameras: Cameras,
    elevation_deg: float,
    models: Hi3dModels,
    rng: Generator,
    settings: Hi3d,
    stage: StageRunner,
) -> Views:
    """Run the first stage."""
    return stage(
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


def _refined(
    ring: Views,
    subject: Foreground,
    elevation_deg: float,
    models: Hi3dModels,
    rng: Generator,
    settings: Hi3d,
    stage: StageRunner,
) -> Views:
    """Run the second stage, or enlarge the ring where it is left out."""
    side = (settings.size_px, settings.size_px)
    if settings.refine_steps == 0:
        return ring.resized(side)
    return stage(
        "refine",
        lambda report: models.refiner.refine(
            ring,
            subject,
            rng,
            photo_elevation_deg=elevation_deg,
            steps=settings.refine_steps,
            report=report,
        ).resized(side),
    )


def _asset(
    gaussians: Gaussians,
    views: Views,
    photo: Views,
    rng: Generator,
    settings: Hi3d,
    stage: StageRunner,
) -> Asset:
    """Fit the surface to the ring and to what the cloud shows between and beyond; colour it."""
    meshing = Meshing(
        resolution=settings.mesh_resolution,
        fusion=DRAWN,
        faces=settings.faces,
        texture_size=settings.texture_size,
        watertight=settings.watertight,
        splats=settings.splats,
    )
    if settings.surface == "splat":
        asset, scale, shift = asset_from_gaussians(
            gaussians, views, photo, meshing=meshing, rng=rng, stage=stage
        )
    else:
        mesh = stage.long(
            "field",
            lambda report, kept: mesh_of_field(
                views_to_fit(gaussians, views, settings),
                rng,
                photo=photo,
                surface=settings.surface,
                steps=settings.field_steps,
                meshing=meshing,
                report=report,
                kept=kept,
            ),
        )
        asset, scale, shift = finished_asset(
            mesh, gaussians, views, photo, meshing=meshing, rng=rng, stage=stage
        )
    stage.note("world_from_fitted", {"scale": scale, "shift": shift.tolist()})
    return asset


def views_to_fit(gaussians: Gaussians, views: Views, settings: Hi3d) -> Views:
    """Give what a field is fitted to: the ring, M renders between, renders from further rings."""
    ring, further = views[: settings.ring_views], views.cameras[settings.ring_views :]
    cameras = [further] if settings.more_rings else []
    if settings.between:
        cameras.append(between_neighbours(ring.cameras, settings.between))
    rendered = [render_gaussians(gaussians, concatenate_cameras(cameras))] if cameras else []
    every = concatenate_views([ring, *rendered])
    return every.resized((settings.field_px, settings.field_px))
