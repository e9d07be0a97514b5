"""The photograph as every method sees it: framed, and as a view from a known place."""

from collections.abc import Sequence

import torch

from ..camera import Cameras, concatenate_cameras
from ..image import Foreground, Image
from ..models import Elevation, Matte, Report, StageRunner
from ..segment import frame_subject
from ..views import Views


def framed_subject(photo: Image, matte: Matte, *, photo_px: int) -> Foreground:
    """Cut out the subject and frame it as the models were trained.

    Args:
        photo: The photograph; alpha in the file means a prepared picture, whose framing is often
            the models' own and is then kept.
        matte: Cuts out the subject.
        photo_px: Side of the square picture.

    Raises:
        ValueError: If the photograph shows no subject.
    """
    return frame_subject(matte(photo), size_px=photo_px, keep_if_framed=photo.alpha is not None)


def seen_subject(
    photo: Image,
    matte: Matte,
    elevation: Elevation,
    *,
    photo_px: int,
    known_deg: float | None,
    stage: StageRunner,
) -> tuple[Foreground, float]:
    """Cut the subject out and say where it was photographed from: every method's first two stages.

    Args:
        photo: The photograph.
        matte: Cuts out the subject.
        elevation: Estimates the elevation from the photograph alone.
        photo_px: Side of the framed picture.
        known_deg: The elevation, if it is known; then nobody is asked.
        stage: Runs the stages `matte` and `elevation`, and notes `photo_elevation_deg`.

    Raises:
        ValueError: If the photograph shows no subject.
    """
    subject = stage("matte", lambda _: framed_subject(photo, matte, photo_px=photo_px))

    def estimated(_: Report) -> float:
        return plausible_deg(elevation(subject.over()[None])) if known_deg is None else known_deg

    elevation_deg = stage("elevation", estimated)
    stage.note("photo_elevation_deg", elevation_deg)
    return subject, elevation_deg


def photo_view(
    subject: Foreground, *, elevation_deg: float, distance: float, fov_deg: float
) -> Views:
    """Give the framed photograph as a view of its own, over white, at azimuth 0."""
    camera = Cameras.orbit(
        [0.0],
        elevation_deg=elevation_deg,
        radius=distance,
        fov_deg=fov_deg,
        size_hw=subject.size_hw,
    )
    return Views(subject.over()[None], subject.alpha[None], camera)


def ring_cameras(
    rings: Sequence[tuple[float, int]], *, distance: float, fov_deg: float, size_px: int
) -> Cameras:
    """Place rings of cameras, ring after ring; each begins at azimuth 0, where the photographer is.

    Args:
        rings: Elevation in degrees and number of views of each.
        distance: Of the cameras from the origin.
        fov_deg: Vertical field of view.
        size_px: Side of the pictures.
    """
    return concatenate_cameras(
        [
            asked_cameras(
                None,
                elevation_deg,
                ring_views=count,
                distance=distance,
                fov_deg=fov_deg,
                size_px=size_px,
            )
            for elevation_deg, count in rings
        ]
    )


def asked_cameras(
    azimuth_deg: Sequence[float] | None,
    elevation_deg: float,
    *,
    ring_views: int,
    distance: float,
    fov_deg: float,
    size_px: int,
) -> Cameras:
    """Place cameras where a user asks for them, or else a ring of so many.

    Args:
        azimuth_deg: Of each view; None for the ring.
        elevation_deg: Of all views.
        ring_views: Views of that ring.
        distance: Of the cameras from the origin.
        fov_deg: Vertical field of view.
        size_px: Side of the pictures.
    """
    if azimuth_deg is None:
        azimuth_deg = [360.0 * k / ring_views for k in range(ring_views)]
    return Cameras.orbit(
        azimuth_deg,
        elevation_deg=elevation_deg,
        radius=distance,
        fov_deg=fov_deg,
        size_hw=(size_px, size_px),
    )


def with_photo(views: Views, subject: Foreground) -> Views:
    """Put the photograph in the place of the first view, which was drawn from its side."""
    small = subject.resized(views.cameras.size_hw)
    return Views(
        torch.cat([small.over()[None], views.rgb[1:]]),
        torch.cat([small.alpha[None], views.alpha[1:]]),
        views.cameras,
    )


def plausible_deg(elevation_deg: float) -> float:
    """Keep an estimate where an orbit can be placed and the models know their way."""
    return max(-30.0, min(60.0, elevation_deg))
