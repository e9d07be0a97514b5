"""Train the depth and normal estimator on rendered views, whose geometry is known.

Inverse depth is compared as by Ranftl et al., "Towards Robust Monocular Depth Estimation: Mixing
Datasets for Zero-shot Cross-dataset Transfer", 2020 (MiDaS): up to scale and shift (equations 5 and
6, without trimming: our truth has no outliers), with their gradient term (equation 11). Normals are
compared by their cosine.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..data.objects import ObjectFile, is_scan
from ..data.shards import ShardSettings, read_shard, render_shards
from ..diffusion.depth_head import PICTURE_PX, DepthNetwork
from ..diffusion.orbit import DISTANCE, FOV_DEG
from ..image import resize
from ..mesh import Mesh, centred
from ..models import Report, silent
from .batch import recoloured
from .encoding import device_of
from .loop import LoopSettings, half_precision, train

VIEWS = 10
"""Views of each object. Chosen by us."""
SCANS_TIMES = 4
"""How much oftener a scanned object is rendered than a drawn one. Chosen by us: scans look most
like what users photograph, and of the shipped models' 1,057 objects only 23 are."""
STRETCH = 0.35
"""Largest logarithm of what a stretched object's sides are multiplied by. Chosen by us."""


def depth_cameras(rng: np.random.Generator, size_px: int) -> Cameras:
    """Place 10 cameras all round at the orbit models' distance: 7 of 10 as photos are taken.

    Those have elevations in [-10, 40]; the others in [-45, 75].
    """
    usual = rng.random(VIEWS) < 0.7
    elevation = np.where(usual, rng.uniform(-10, 40, VIEWS), rng.uniform(-45, 75, VIEWS))
    return Cameras.orbit(
        rng.uniform(0, 360, VIEWS).tolist(),
        elevation_deg=elevation.tolist(),
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(size_px, size_px),
    )


@dataclass(frozen=True)
class EstimatorTraining:
    """How the estimator is trained; weights and augmentation were chosen by us, none was swept.

    Attributes:
        batch: Pictures a step.
        gradient: Weight of the gradient term; MiDaS has 0.5. Chosen by us: at 0.5 and 0.2 it made
            up much of the loss in trainings of 1,000 steps; others were not compared.
        anchor: Weight of the plain difference, which makes the unit that of the truth, and which
            learns the coarse relief that the scale-free term is slow to find.
        normal: Weight of the normals' term.
        coverage: Weight of the term that tells subject from background.
        zoom: Range of the enlargement of pictures.
        blurred: Share of the pictures brought down to half their size and up again, as small views
            are.
    """

    batch: int = 16
    gradient: float = 0.1
    anchor: float = 6.0
    normal: float = 2.0
    coverage: float = 0.2
    zoom: tuple[float, float] = (0.75, 1.2)
    blurred: float = 0.3


@dataclass(frozen=True, eq=False)
class DepthSet:
    """Rendered pictures with their geometry, as small as they can be kept: 83 kB at 96 px.

    Attributes:
        rgba: n h w 4 uint8, colour over white.
        inverse: n h w float16: the orbit's distance over the depth, 0 where nothing is.
        normal: n h w 3 int8: 127 times the normals in the camera's frame.
        elevation_deg: Where each was seen from.
    """

    rgba: np.ndarray
    inverse: np.ndarray
    normal: np.ndarray
    elevation_deg: np.ndarray

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.rgba)


@dataclass(frozen=True, eq=False)
class DepthBatch:
    """Pictures over white, their geometry and where they were seen from, as `DepthSet` has it."""

    rgb: Float[Tensor, "n h w 3"]
    inverse: Float[Tensor, "n h w"]
    normal: Float[Tensor, "n h w 3"]
    elevation_deg: Float[Tensor, " n"]


def read_depth_set(shards: Iterable[Path]) -> DepthSet:
    """Read what `data.shards.render_shards` wrote into memory.

    Raises:
        ValueError: If there are no pictures.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for path in shards:
        for item in read_shard(path):
            views = item.views
            assert views.depth is not None
            assert views.normal is not None
            world_from_camera = views.cameras.world_from_camera
            normal = torch.einsum("nhwi,nij->nhwj", views.normal, world_from_camera[:, :3, :3])
            inverse = DISTANCE / views.depth.clamp(min=1e-3) * (views.depth > 0)
            rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
            eye = nn.functional.normalize(world_from_camera[:, :3, 3], dim=-1)
            parts.append(
                (
                    (rgba * 255 + 0.5).to(torch.uint8).numpy(),
                    inverse.half().numpy(),
                    (normal * 127).round().to(torch.int8).numpy(),
                    torch.rad2deg(eye[:, 1].asin()).numpy(),
                )
            )
    if not parts:
        raise ValueError("shards hold no objects")
    columns = list(zip(*parts, strict=True))
    parts.clear()  # Each kind is let go once it is in one piece: sets are of gigabytes.
    return DepthSet(*[np.concatenate(columns.pop(0)) for _ in fields(DepthSet)])


def rendered_depth_set(
    objects: list[ObjectFile],
    folder: Path,
    *,
    size_px: int = PICTURE_PX,
    seed: int = 0,
    workers: int = 1,
    report: Report = silent,
) -> DepthSet:
    """Render objects, the same again stretched, and half as many generated ones; half are lit.

    What is there already is read back.
    """
    made = ShardSettings(size_px=size_px, lit_share=0.5, shard_objects=32, seed=seed)
    several: dict[str, Any] = {"cameras": depth_cameras, "workers": workers}
    scans = [item for item in objects if is_scan(item.name)]
    often = [*objects, *(SCANS_TIMES - 1) * scans]
    real = render_shards(
        [*often, *stretched(often, seed)],
        folder / "objects",
        settings=made,
        report=lambda x: report(x * 4 / 5),
        **several,
    )
    generated = render_shards(
        -(-len(objects) // 2),
        folder / "generated",
        settings=replace(made, seed=seed + 1),
        report=lambda x: report((4 + x) / 5),
        **several,
    )
    return read_depth_set([*real, *generated])


def stretched(objects: list[ObjectFile], seed: int) -> list[ObjectFile]:
    """Give other objects of the same make: each side longer or shorter, what is up stays up."""
    return [
        ObjectFile(f"{item.name} stretched", functools.partial(_stretched, item.read, seed, at))
        for at, item in enumerate(objects)
    ]


def _stretched(read: Callable[[], Mesh], seed: int, at: int) -> Mesh:
    mesh = read()
    factor = np.exp(np.random.default_rng([seed, at]).uniform(-STRETCH, STRETCH, 3))
    return centred(replace(mesh, vertices=mesh.vertices * torch.from_numpy(factor).float()))[0]


def train_depth(
    network: DepthNetwork,
    data: DepthSet,
    directory: Path,
    *,
    training: EstimatorTraining = EstimatorTraining(),
    settings: LoopSettings = LoopSettings(steps=2500, learning_rate=2e-3),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> DepthNetwork:
    """Train a network where it is; of its features, what asks for gradients."""
    place = device_of(network.decoder)

    def loss(_: nn.Module, rng: Generator) -> Tensor:
        batch = draw(data, training, rng)
        # Not the features: a CPU takes longer over their filters' gradients in half precision.
        maps = network.features.maps(batch.rgb.to(place))
        with half_precision(place.type):
            out = network.decoder(maps)
        return depth_loss(out.float(), batch, training)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network.eval()


def draw(
    data: DepthSet, training: EstimatorTraining, rng: Generator, *, count: int | None = None
) -> DepthBatch:
    """Draw pictures, a batch or `count`, mirrored, recoloured, enlarged and blurred at random."""
    rows = torch.randint(len(data), (count or training.batch,), generator=rng)
    chosen = rows.sort().values.numpy()
    rgba = torch.from_numpy(data.rgba[chosen].astype(np.float32) / 255)
    inverse = torch.from_numpy(data.inverse[chosen].astype(np.float32))
    normal = torch.from_numpy(data.normal[chosen].astype(np.float32) / 127)
    rgba = torch.cat([recoloured(one[None], rng) for one in rgba])
    blurred = torch.rand(len(rgba), 1, 1, 1, generator=rng) < training.blurred
    h, w = rgba.shape[1:3]
    soft = resize(resize(rgba, (h // 2, w // 2)), (h, w)).clamp(0, 1)
    ink = 1 - torch.where(blurred, soft, rgba)[..., :3]  # 0 on white: what lies outside too.
    mirrored = torch.rand(len(rgba), generator=rng) < 0.5
    at = _grid(len(rgba), (h, w), mirrored, training.zoom, rng)
    surface = torch.cat([inverse[..., None], normal], dim=-1)
    # Nearest: between two pixels of an edge there is nothing at the mean depth.
    surface = _sampled(surface, at, "nearest")
    facing = torch.where(mirrored, -1.0, 1.0)[:, None, None]
    normal = torch.stack([surface[..., 1] * facing, surface[..., 2], surface[..., 3]], dim=-1)
    elevation_deg = torch.from_numpy(data.elevation_deg[chosen].astype(np.float32))
    return DepthBatch(1 - _sampled(ink, at, "bilinear"), surface[..., 0], normal, elevation_deg)


def depth_loss(
    out: Float[Tensor, "n 5 h w"],
    batch: DepthBatch,
    training: EstimatorTraining = EstimatorTraining(),
) -> Float[Tensor, ""]:
    """Compare what a `DepthDecoder` gives with the truth; of pictures without subject, coverage."""
    inverse, normal = batch.inverse.to(out), batch.normal.to(out)
    subject = inverse > 0
    cover = nn.functional.binary_cross_entropy_with_logits(out[:, 4], subject.to(out))
    count = subject.sum().clamp(min=1)
    predicted = 1 + out[:, 0]
    plain = ((predicted - inverse).abs() * subject).sum() / count
    aligned = scale_free_loss(predicted, inverse, subject, gradient=training.gradient)
    cosine = nn.functional.cosine_similarity(out[:, 1:4], normal.movedim(-1, 1), dim=1)
    facing = ((1 - cosine) * subject).sum() / count
    return aligned + training.anchor * plain + training.normal * facing + training.coverage * cover


def scale_free_loss(
    predicted: Float[Tensor, "n h w"],
    truth: Float[Tensor, "n h w"],
    inside: Bool[Tensor, "n h w"],
    *,
    gradient: float,
) -> Float[Tensor, ""]:
    """Give MiDaS's loss: both maps less their median, over their mean deviation, and gradients.

    L = 1/(2M) sum |r| + gradient/M sum over 4 scales of |dr/dx| + |dr/dy|, r the difference of the
    two. A map of less than a hundredth mean deviation is not stretched further.
    """
    difference = (_standard(predicted, inside) - _standard(truth, inside)) * inside
    count = inside.flatten(1).sum(dim=1).clamp(min=1)
    loss = difference.abs().flatten(1).sum(dim=1) / (2 * count)
    for scale in range(4):
        step = 2**scale
        r, there = difference[:, ::step, ::step], inside[:, ::step, ::step]
        across = (r.diff(dim=2).abs() * (there[:, :, 1:] & there[:, :, :-1])).flatten(1).sum(dim=1)
        down = (r.diff(dim=1).abs() * (there[:, 1:] & there[:, :-1])).flatten(1).sum(dim=1)
        loss = loss + gradient * (across + down) / there.flatten(1).sum(dim=1).clamp(min=1)
    return loss.mean()


def held_out(name: str) -> bool:
    """Say whether an object is kept for measuring: a tenth, by the hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] < 26


def _standard(level: Tensor, inside: Tensor) -> Tensor:
    hidden = level.masked_fill(~inside, float("nan")).flatten(1)
    middle = hidden.nanmedian(dim=1).values.nan_to_num()[:, None, None]
    centred = (level - middle) * inside
    count = inside.flatten(1).sum(dim=1).clamp(min=1)
    spread = centred.abs().flatten(1).sum(dim=1) / count
    return centred / spread.clamp(min=1e-2)[:, None, None]


def _grid(
    count: int,
    size_hw: tuple[int, int],
    mirrored: Tensor,
    zoom: tuple[float, float],
    rng: Generator,
) -> Float[Tensor, "n h w 2"]:
    """Say where each pixel comes from: enlarged, moved by up to a tenth, mirrored."""
    larger = torch.empty(count).uniform_(*zoom, generator=rng)
    move = torch.empty(count, 2).uniform_(-0.1, 0.1, generator=rng)
    turn = torch.zeros(count, 2, 3)
    turn[:, 0, 0] = torch.where(mirrored, -1.0, 1.0) / larger
    turn[:, 1, 1] = 1 / larger
    turn[:, :, 2] = move
    return nn.functional.affine_grid(turn, [count, 1, *size_hw], align_corners=False)


def _sampled(
    picture: Float[Tensor, "n h w c"], at: Float[Tensor, "n h w 2"], mode: str
) -> Float[Tensor, "n h w c"]:
    out = nn.functional.grid_sample(picture.movedim(-1, 1), at, mode=mode, align_corners=False)
    return out.movedim(1, -1)
