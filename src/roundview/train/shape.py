"""Train the estimator of the whole solid on rendered objects, whose insides are known."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..data.objects import ObjectFile, is_scan
from ..data.procedural import generated_objects
from ..data.solid_set import SolidSet, render_solid_set
from ..diffusion.depth_head import FeatureDepth
from ..diffusion.orbit import DISTANCE, FOV_DEG
from ..diffusion.shape_head import COLOUR_LAYERS, LAYERS, REACH, SIDE, ShapeDecoder, upright
from ..diffusion.tuned import TunedFeatures
from ..image import resize
from ..models import DepthModel, FeatureModel, Report, silent
from ..segment import FRAMING
from .batch import recoloured
from .depth import stretched
from .encoding import device_of
from .loop import LoopSettings, half_precision, train


@dataclass(frozen=True)
class ShapeTraining:
    """How the estimator is trained; all numbers were chosen by us, none was swept.

    Attributes:
        batch: Pictures a step.
        framed: Share of the pictures that are framed as `frame_subject` frames photographs; the
            others keep the scale at which the orbit models see their subjects, within a tenth.
        elevation_off_deg: Deviation of the elevation that is told from the true one: estimates of
            photographs' are no better.
        overlap: Weight of the term that asks for overlap of each solid as a whole.
        colour: Weight of the colours' term.
        blurred: Share of the pictures brought down to half their size and up again.
    """

    batch: int = 24
    framed: float = 0.7
    elevation_off_deg: float = 6.0
    overlap: float = 0.5
    colour: float = 1.0
    blurred: float = 0.3


@dataclass(frozen=True, eq=False)
class ShapeBatch:
    """Pictures and what their rays go through.

    Attributes:
        rgba: Colour over white.
        elevation_deg: As it is told.
        fill: `Solid.fill` at every place.
        rgb: Colour of the surface in each colour layer.
        has_rgb: Where there is some.
    """

    rgba: Float[Tensor, "n 4 h h"]
    elevation_deg: Float[Tensor, " n"]
    fill: UInt8[Tensor, "n l s s"]
    rgb: Float[Tensor, "n 3 k s s"]
    has_rgb: UInt8[Tensor, "n k s s"]


SCANS_TIMES = 3
"""How much oftener a scanned object is drawn than another, stretched or not. Chosen by us."""
GENERATED = 0.8
"""How often a generated object is drawn, against one of the archive. Chosen by us."""
_SCANS_STRETCHED = 6
"""Stretched copies of a scan; other objects have one."""


def rendered_solid_sets(
    objects: list[ObjectFile],
    folder: Path,
    *,
    seed: int = 0,
    workers: int = 1,
    report: Report = silent,
) -> list[SolidSet]:
    """Render and fill objects, the same again stretched, and as many generated ones.

    What is there already is read back. 1.5 MB an object.
    """
    scans = [item for item in objects if is_scan(item.name)]
    parts = {
        "objects": objects,
        "stretched": stretched([*objects, *(_SCANS_STRETCHED - 1) * scans], seed),
        "generated": generated_objects(len(objects), seed),
    }
    return [
        render_solid_set(
            part,
            folder / name,
            seed=seed + at,
            workers=workers,
            report=lambda x, at=at: report((at + x) / len(parts)),
        )
        for at, (name, part) in enumerate(parts.items())
    ]


def _how_often(name: str) -> float:
    return SCANS_TIMES if is_scan(name) else GENERATED if name.startswith("generated/") else 1.0


class SolidSampler:
    """Draws batches from sets of objects.

    Args:
        sets: What was rendered; objects that are not ready are left out.

    Raises:
        ValueError: If no object is ready.
    """

    def __init__(self, sets: list[SolidSet]) -> None:
        self.sets = sets
        self._where = [
            (s, o) for s, part in enumerate(sets) for o in np.flatnonzero(part.ready).tolist()
        ]
        if not self._where:
            raise ValueError("there are no objects to train on")
        names = [sets[s].names[o] for s, o in self._where]
        self._weight = torch.tensor([_how_often(name) for name in names])

    def draw(
        self, training: ShapeTraining, rng: Generator, *, count: int | None = None
    ) -> ShapeBatch:
        """Draw pictures, a batch or `count`, mirrored, recoloured, framed and blurred at random."""
        count = count or training.batch
        rows = torch.multinomial(self._weight, count, replacement=True, generator=rng)
        chosen = [self._where[row] for row in rows.tolist()]
        # Each has its own stream of random numbers, so that threads cannot change their order.
        seeds = torch.randint(2**62, (count,), generator=rng).tolist()

        def one(at: int) -> tuple[Tensor, float, np.ndarray, Tensor, np.ndarray]:
            return self._one(chosen[at], training, Generator().manual_seed(seeds[at]))

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            parts = list(threads.map(one, range(count)))
        rgba, elevation, fill, rgb, has_rgb = (list(column) for column in zip(*parts, strict=True))
        return ShapeBatch(
            torch.stack(rgba),
            torch.tensor(elevation),
            torch.from_numpy(np.stack(fill)),
            torch.stack(rgb),
            torch.from_numpy(np.stack(has_rgb)),
        )

    def _one(
        self, where: tuple[int, int], training: ShapeTraining, rng: Generator
    ) -> tuple[Tensor, float, np.ndarray, Tensor, np.ndarray]:
        part, row = where
        data = self.sets[part]
        at = int(torch.randint(data.rgba.shape[1], (), generator=rng))
        pick = torch.rand(4, generator=rng).tolist()
        spread = torch.randn(2, generator=rng).tolist()
        picture = torch.from_numpy(data.rgba[row, at].astype(np.float32) / 255)
        framed = framing(picture[..., 3].numpy()) if pick[0] < training.framed else None
        zoom, across, down = framed or (1.0, 0.0, 0.0)
        zoom *= math.exp(0.03 * spread[0] if framed else 0.2 * (pick[1] - 0.5))
        mirror = -1.0 if pick[2] < 0.5 else 1.0
        if pick[3] < training.blurred:
            side = picture.shape[0]
            picture = resize(resize(picture, (side // 2, side // 2)), (side, side)).clamp(0, 1)
        rgba = _moved(picture, mirror, zoom, (across, down))
        camera = Cameras.orbit(
            [float(data.azimuth_deg[row, at])],
            elevation_deg=float(data.elevation_deg[row, at]),
            radius=DISTANCE,
            fov_deg=FOV_DEG,
            size_hw=(1, 1),
        )
        told = float(data.elevation_deg[row, at]) + training.elevation_off_deg * spread[1]
        seen = resize(rgba[..., 3:], (SIDE, SIDE))[..., 0].numpy() > 0
        fill, rgb, has_rgb = along_rays(
            data.fill[row],
            data.rgb[row],
            seen,
            camera.world_from_camera[0].double().numpy(),
            np.array(
                [mirror, zoom, across, down, float(camera.focal_px[0]), REACH, *upright(told)]
            ),
        )
        solid_rgb = torch.from_numpy(rgb.astype(np.float32) / 255)
        # Both in one, so that the same colours change alike.
        colours = [rgba.reshape(-1, 4), nn.functional.pad(solid_rgb.reshape(-1, 3), (0, 1))]
        changed = recoloured(torch.cat(colours)[None, None], rng)[0, 0].split(
            [len(c) for c in colours]
        )
        rgba = changed[0].reshape(rgba.shape).movedim(-1, 0)
        solid_rgb = changed[1][:, :3].reshape(solid_rgb.shape).movedim(-1, 0)
        return rgba, told, fill, solid_rgb, has_rgb


def along_rays(
    fill: np.ndarray,
    rgb: np.ndarray,
    seen: np.ndarray,
    pose: np.ndarray,
    view: np.ndarray,
    layers: int = LAYERS,
    colour_layers: int = COLOUR_LAYERS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look up what the rays of a picture go through, by the CPU kernel.

    Args:
        fill: `Solid.fill`.
        rgb: `Solid.rgb`.
        seen: Rays that are looked at, rows by columns; the others are left empty.
        pose: World from camera, 4 x 4.
        view: -1 to mirror, zoom, the picture's middle across and down as shares, focal length as a
            share, reach of the layers, sine and cosine of the elevation (`upright`).
        layers: Places along a ray.
        colour_layers: Places with colour; a divisor of `layers`.

    Returns:
        Fill, colours, and 1 where there is a surface that has one.
    """
    from .shape_numba import ray_kernel  # noqa: PLC0415  numba is slow to import

    found = np.zeros((layers, *seen.shape), np.uint8)
    colour = np.zeros((colour_layers, *seen.shape, 3), np.uint8)
    has = np.zeros((colour_layers, *seen.shape), np.uint8)
    ray_kernel(fill, rgb, seen, pose, view, found, colour, has)
    return found, colour, has


def along_rays_reference(
    fill: np.ndarray,
    rgb: np.ndarray,
    seen: np.ndarray,
    pose: np.ndarray,
    view: np.ndarray,
    layers: int = LAYERS,
    colour_layers: int = COLOUR_LAYERS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say what the kernel of `along_rays` must look up; arguments as there.

    A place of the picture is a point on its ray in the camera that took the picture before it was
    mirrored, enlarged and moved; what is enlarged is nearer to the middle's depth.
    """
    mirror, zoom, across, down, focal, reach, sine, cosine = view
    middles = (np.arange(len(seen)) + 0.5) / len(seen) - 0.5
    away = ((np.arange(layers) + 0.5) / layers * 2 - 1) * reach / zoom
    k, y, x = np.meshgrid(
        away,
        (middles / zoom + down) / focal,
        (mirror * middles / zoom + across) / focal,
        indexing="ij",
    )
    depth = (k + DISTANCE * cosine) / (cosine - y * sine)
    in_camera = np.stack([x, y, np.ones_like(k)], axis=-1) * depth[..., None]
    place = in_camera @ pose[:3, :3].T + pose[:3, 3] + 0.5
    inside = ((place >= 0) & (place < 1)).all(axis=-1) & seen
    cell, coarse = (
        tuple((np.where(inside[..., None], place, 0) * len(grid)).astype(int).transpose(3, 0, 1, 2))
        for grid in (fill, rgb)
    )
    found = np.where(inside, fill[cell], 0)
    before = np.concatenate([np.zeros_like(found[:1]), found[:-1]])
    surface = (found == 1) | ((found == 2) & (before == 0))
    grouped = surface.reshape(colour_layers, -1, *seen.shape)
    first = np.expand_dims(grouped.argmax(axis=1), (1, 4))
    colours = rgb[coarse].reshape(*grouped.shape, 3)
    has = grouped.any(axis=1)
    chosen = np.take_along_axis(colours, first, axis=1)[:, 0] * has[..., None]
    return found, chosen, has.astype(np.uint8)


def framing(alpha: np.ndarray) -> tuple[float, float, float] | None:
    """Say how `frame_subject` would enlarge a picture, and the box's middle; None without box."""
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    if not len(rows):
        return None
    side = alpha.shape[0]
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    middle = ((columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2)
    return FRAMING * side / longest, middle[0] / side - 0.5, middle[1] / side - 0.5


def _moved(
    picture: Float[Tensor, "h w 4"], mirror: float, zoom: float, shift: tuple[float, float]
) -> Float[Tensor, "h w 4"]:
    turn = torch.tensor(
        [[[mirror / zoom, 0, 2 * shift[0]], [0, 1 / zoom, 2 * shift[1]]]], dtype=torch.float32
    )
    h, w = picture.shape[:2]
    ink = torch.cat([1 - picture[..., :3], picture[..., 3:]], dim=-1)  # 0 outside too.
    grid = nn.functional.affine_grid(turn, [1, 4, h, w], align_corners=False)
    out = nn.functional.grid_sample(ink.movedim(-1, 0)[None], grid, align_corners=False)
    out = out[0].movedim(0, -1)
    return torch.cat([1 - out[..., :3], out[..., 3:]], dim=-1)


def tuned_features(estimator: DepthModel) -> TunedFeatures:
    """Give the features of our depth estimator, frozen: they know of space already.

    Raises:
        ValueError: If it has none of its own.
    """
    own = estimator.features if isinstance(estimator, FeatureDepth) else None
    if not isinstance(own, TunedFeatures):
        raise ValueError("solids are decoded from a depth estimator's own features: train one")
    return own.requires_grad_(False)


def train_shape(
    decoder: ShapeDecoder,
    features: FeatureModel,
    sampler: SolidSampler,
    directory: Path,
    *,
    training: ShapeTraining = ShapeTraining(),
    settings: LoopSettings = LoopSettings(steps=5000, learning_rate=1e-3),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> ShapeDecoder:
    """Train a decoder where it is, on features that stay as they are."""
    place = device_of(decoder)

    def loss(network: nn.Module, rng: Generator) -> Tensor:
        batch = sampler.draw(training, rng)
        rgba = batch.rgba.to(place)
        with torch.no_grad():
            maps = features.maps(rgba[:, :3].movedim(1, -1))
        small = nn.functional.interpolate(rgba, maps[0].shape[-2:], mode="area")
        with half_precision(place.type):
            solid, rgb = network(maps, small, batch.elevation_deg.to(place))
        return shape_loss(solid.float(), rgb.float(), small, batch, training)

    train(decoder, loss, directory, settings=settings, resume=resume, report=report)
    return decoder.eval()


def shape_loss(
    solid: Float[Tensor, "n l s s"],
    rgb: Float[Tensor, "n 3 k s s"],
    small: Float[Tensor, "n 4 s s"],
    batch: ShapeBatch,
    training: ShapeTraining = ShapeTraining(),
) -> Float[Tensor, ""]:
    """Compare solids and colours with the truth, on the rays that meet the subject.

    Cross entropy of every place, one less the overlap (Milletari et al., "V-Net", 2016, of soft
    solids: product over sum less product), and the absolute difference of colours on surfaces.
    """
    sample, y, x = (small[:, 3] > 0.1).nonzero(as_tuple=True)
    rays = solid.movedim(1, -1)[sample, y, x]
    truth = batch.fill.to(solid.device).movedim(1, -1)[sample, y, x].to(solid) / 2
    plain = nn.functional.binary_cross_entropy_with_logits(rays, truth)
    share = rays.sigmoid()
    both, either = solid.new_zeros(2, len(solid)).unbind()
    both = both.index_add(0, sample, (share * truth).sum(dim=1))
    either = either.index_add(0, sample, (share + truth - share * truth).sum(dim=1))
    overlap = (1 - both / either.clamp(min=1)).mean()
    there = batch.has_rgb.to(rgb).movedim(1, -1)[sample, y, x][..., None]
    guessed = (
        small[:, :3].movedim(1, -1)[sample, y, x][:, None]
        + rgb.permute(0, 3, 4, 2, 1)[sample, y, x]
    )
    off = (guessed - batch.rgb.to(rgb).permute(0, 3, 4, 2, 1)[sample, y, x]).abs() * there
    colour = off.sum() / (3 * there.sum()).clamp(min=1)
    return 4 * plain + training.overlap * overlap + training.colour * colour
