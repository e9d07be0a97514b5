"""Views of a subject drawn one by one from views that are known, by our own network.

With the photograph alone it is asked as Zero123 is (Liu et al., "Zero-1-to-3: Zero-shot One Image
to 3D Object", 2023); with views that it drew itself, as the refiner of Chen et al.,
"Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted Nearby Views", 2024.
`zero123_views` does the same for their own networks.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras
from ..frames import cameras_from_zero123
from ..image import resize
from ..models import Report, silent
from ..views import Views
from .encoders import LatentAutoencoder
from .noise import CosineSchedule, clean_from_v, randn
from .orbit import check_cameras, drawing_times
from .sample import dpmpp_2m
from .view_transformer import ViewTransformer
from .zero123 import pose_from_degrees

NEARBY_DEG = ((0.0, 45.0, 0.0), (0.0, -45.0, 0.0), (-30.0, 0.0, 0.0))
"""The nearby views, told from the input as in Zero123's demo: 45 degrees to either side, and 30 up
(Chen et al. 2024, section 4.1; a negative polar angle is above)."""


@runtime_checkable
class RefinerModel(Protocol):
    """A `ViewModel` that may also be told a first draft of each view: a cascade's refiner.

    Attributes:
        size_px: Side of the pictures that it sees and draws, whatever the cameras' size.
    """

    @property
    def size_px(self) -> int:
        """Give the side."""
        ...

    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        coarse: Views | None = None,
        report: Report = silent,
    ) -> Views:
        """Draw a view for each camera, from noise; see `ViewModel.draw`.

        Args:
            known: Views of the subject that every target is drawn from, the photograph first.
            cameras: Where to look from.
            rng: CPU generator of the noise.
            steps: Sampler steps of each view.
            coarse: A draft of each view, of the same cameras. The model is told the photograph, the
                draft and the other known views, in this order.
            report: Called with the fraction done.
        """
        ...


def nearby_cameras(
    photo_camera: Cameras, nearby_deg: tuple[tuple[float, float, float], ...] = NEARBY_DEG
) -> Cameras:
    """Place the cameras of the nearby views of each photograph, all of the first photo's first.

    Args:
        photo_camera: Where each photograph was taken from.
        nearby_deg: Degrees of polar angle and azimuth and the distance, on top of the photo's.

    Raises:
        ValueError: If a view would stand at a pole or beyond it.
    """
    count = len(nearby_deg)
    every = [k // count for k in range(count * len(photo_camera))]
    pose = pose_from_degrees(torch.tensor(nearby_deg)).repeat(len(photo_camera), 1)
    return cameras_from_zero123(pose.to(photo_camera.world_from_camera), photo_camera[every])


@dataclass(frozen=True, eq=False)
class KnownViews:
    """Views of one subject as our network is told them, the photograph first.

    Attributes:
        latents: Clean latents.
        photo_rgba: The photograph itself, colour over white and alpha.
        cameras: Where they are seen from.
    """

    latents: Float[Tensor, "k c p p"]
    photo_rgba: Float[Tensor, "1 4 h h"]
    cameras: Cameras


@dataclass(frozen=True, eq=False)
class KnownTold:
    """What our network is told of each of n targets: k views besides the photograph.

    Attributes:
        beside: Clean latents of these.
        photo_latent: Clean latents of the photograph.
        photo_rgba: The photograph, colour over white and alpha.
        world_from_camera: Poses of the photograph, of the k views and of the target.
        focal_ratio: Their focal lengths as shares of the picture's height.
    """

    beside: Float[Tensor, "n k c p p"]
    photo_latent: Float[Tensor, "n c p p"]
    photo_rgba: Float[Tensor, "n 4 h h"]
    world_from_camera: Float[Tensor, "n k+2 4 4"]
    focal_ratio: Float[Tensor, "n k+2"]

    def __getitem__(self, index: slice) -> "KnownTold":
        """Take some of the targets."""
        return KnownTold(
            self.beside[index],
            self.photo_latent[index],
            self.photo_rgba[index],
            self.world_from_camera[index],
            self.focal_ratio[index],
        )


class SmallViewModel:
    """A `RefinerModel`: a `ViewTransformer` over latents, whose known views are clean at time 0.

    The shipped orbit network needs no more than the photograph; the shipped refiner knows what to
    do with more. Draws any views at its distance and field of view, pictures as `LatentOrbitModel`.

    Args:
        network: Draws.
        autoencoder: Whose latents it draws.
        together: Views that go through the network in one call; changes no result but the last
            digits.
    """

    def __init__(
        self, network: ViewTransformer, autoencoder: LatentAutoencoder, *, together: int = 8
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.together = together
        self.device = next(network.parameters()).device
        self.size_px = network.size.latent_px * LatentAutoencoder.FACTOR

    @torch.no_grad()
    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        coarse: Views | None = None,
        report: Report = silent,
    ) -> Views:
        """Draw each view on its own from noise; see `RefinerModel`.

        Raises:
            ValueError: If the cameras do not stand where the model was trained.
        """
        check_cameras(cameras)
        told = self.tell(self.look_at(known), cameras, coarse)
        size = self.network.size
        start = randn((len(cameras), size.latent_channels, *[size.latent_px] * 2), rng)
        drawn = []
        for begin in range(0, len(cameras), self.together):
            part = slice(begin, begin + self.together)
            drawn.append(self._denoised(start[part], told[part], steps))
            report(min(begin + self.together, len(cameras)) / len(cameras))
        rgba = rearrange(torch.cat(drawn), "n c h w -> n h w c").clamp(0, 1)
        rgba = resize(rgba, cameras.size_hw).clamp(0, 1)
        return Views(rgba[..., :3].contiguous(), rgba[..., 3].contiguous(), cameras)

    @torch.no_grad()
    def look_at(self, known: Views) -> KnownViews:
        """Encode views of a subject, the photograph first, once for all that is drawn from them."""
        rgba = self._rgba(known)
        return KnownViews(self.autoencoder.encode(rgba), rgba[:1], known.cameras)

    @torch.no_grad()
    def tell(self, known: KnownViews, cameras: Cameras, coarse: Views | None = None) -> KnownTold:
        """Say what each of the cameras' views is drawn from; arguments as for `draw`."""
        n = len(cameras)
        beside = known.latents[1:].expand(n, -1, -1, -1, -1)
        nearby = known.cameras[1:]
        pose = [known.cameras.world_from_camera[:1], nearby.world_from_camera]
        focal = [_focal_ratio(known.cameras)[:1], _focal_ratio(nearby)]
        poses = [part.to(self.device).expand(n, *part.shape) for part in pose]
        focals = [part.to(self.device).expand(n, -1) for part in focal]
        own_pose = cameras.world_from_camera.to(self.device)[:, None]
        own_focal = _focal_ratio(cameras).to(self.device)[:, None]
        if coarse is not None:
            beside = torch.cat([self.autoencoder.encode(self._rgba(coarse))[:, None], beside], 1)
            poses.insert(1, own_pose)
            focals.insert(1, own_focal)
        return KnownTold(
            beside,
            known.latents[:1].expand(n, -1, -1, -1),
            known.photo_rgba.expand(n, -1, -1, -1),
            torch.cat([*poses, own_pose], dim=1),
            torch.cat([*focals, own_focal], dim=1),
        )

    def _denoised(self, start: Tensor, told: KnownTold, steps: int) -> Tensor:
        schedule = CosineSchedule()

        def denoise(noisy: Tensor, t: Tensor) -> Tensor:
            v = target_velocity(self.network, noisy.to(self.device), t.to(self.device), told)
            return clean_from_v(schedule, noisy, v.to(noisy), t)

        latent = dpmpp_2m(denoise, start, drawing_times(steps))
        return self.autoencoder.decode(latent.to(self.device)).cpu()

    def _rgba(self, views: Views) -> Float[Tensor, "n 4 h w"]:
        rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
        small = resize(rgba, (self.size_px, self.size_px)).clamp(0, 1)
        return rearrange(small, "n h w c -> n c h w").contiguous().to(self.device)


def target_velocity(
    network: ViewTransformer,
    noisy: Float[Tensor, "n c p p"],
    t: Float[Tensor, " n"],
    told: KnownTold,
) -> Float[Tensor, "n c p p"]:
    """Predict the velocity of each target, from noisy latents at its own time, 0 to 1."""
    clean = torch.zeros(told.beside.shape[:2]).to(t)
    return network(
        torch.cat([told.beside.to(noisy), noisy[:, None]], dim=1),
        torch.cat([clean, t[:, None]], dim=1),
        told.photo_latent,
        told.photo_rgba,
        told.world_from_camera,
        told.focal_ratio,
    )[:, -1]


def _focal_ratio(cameras: Cameras) -> Float[Tensor, " n"]:
    return cameras.focal_px / cameras.size_hw[0]
